package commands

import "runtime"

// heapRoom is how much memory a server that uses little fills with garbage
// twice over before the collector runs.
const heapRoom = 32 << 20 // bytes

// makeHeapRoom makes the collector of garbage run less often until keep is
// called. It runs when the heap has doubled, and that of an api is so small that
// it would run many times a second, for a sixth of the processor time. So the
// heap begins larger, by a piece that is never touched and takes no memory. For
// a server that uses much, it makes no difference; a higher GOGC would.
func makeHeapRoom() (keep func()) {
	room := make([]byte, heapRoom)
	return func() { runtime.KeepAlive(room) }
}
