package commands

import "runtime"

// heapRoom is the size of a ballast: an allocation that is never touched. It
// raises the heap size at which the garbage collector starts, by twice as much.
const heapRoom = 32 << 20 // bytes

// makeHeapRoom makes the garbage collector run less often until release is
// called. It runs when the heap has doubled, and that of an api is so small that
// it would run many times a second, for a sixth of the processor time. The
// ballast counts as heap, but takes no memory, because nothing touches it. To a
// server that uses much it makes no difference; with a higher GOGC, such a one
// would take much more.
func makeHeapRoom() (release func()) {
	room := make([]byte, heapRoom)
	return func() { runtime.KeepAlive(room) }
}
