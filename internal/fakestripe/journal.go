package fakestripe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// journal is an append-only file of JSON lines. Its caller appends one line at
// a time. Many goroutines may sync at once; one sync of the file serves them
// all.
type journal struct {
	file  *os.File
	flush func() error // file.Sync

	// Positions count all bytes that this process has appended. They never
	// fall, not even when the file is emptied.
	written atomic.Int64
	synced  atomic.Int64
	syncing sync.Mutex
}

// openJournal opens the journal in dir and passes each line to replay. It makes
// dir if it does not exist. The file is locked while it is open, because two
// processes that append to one journal would destroy it. A last line without an
// end was torn by a crash. No answer has shown it, so it is cut off.
func openJournal(dir string, replay func(line []byte) error) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "journal.jsonl"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &journal{file: file, flush: file.Sync}
	if err := j.load(dir, replay); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

// load locks the file, reads it, and cuts off a torn line.
func (j *journal) load(dir string, replay func(line []byte) error) error {
	if err := lock(j.file); err != nil {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	end, err := replayLines(j.file, replay)
	if err != nil {
		return fmt.Errorf("reading %s: %w", j.file.Name(), err)
	}
	if err := j.file.Truncate(end); err != nil {
		return fmt.Errorf("cutting off a torn line: %w", err)
	}
	// What was read may never have been synced, and answers are about to show
	// it.
	if err := j.flush(); err != nil {
		return fmt.Errorf("syncing the journal: %w", err)
	}
	return syncDir(dir)
}

// lock locks the file for this process. It returns an error if another process
// has locked it. The kernel unlocks it when the process ends, however it ends.
func lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another fake Stripe uses this directory")
	}
	return err
}

// syncDir makes the names of the files in dir durable. A file whose name is
// lost is lost itself.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the data directory: %w", err)
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("syncing the data directory: %w", err), d.Close())
	}
	return d.Close()
}

// replayLines passes each whole line to replay, and returns where the last one
// ends.
func replayLines(r io.Reader, replay func(line []byte) error) (int64, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	var end int64
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
		if err := replay(line); err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		end += int64(len(line))
	}
}

// append writes a line and returns its position, for sync. A written line
// outlives the process; only a synced line outlives a crash of the machine.
func (j *journal) append(line []byte) (int64, error) {
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return 0, fmt.Errorf("writing the journal: %w", err)
	}
	return j.written.Add(int64(len(line)) + 1), nil
}

// sync returns when everything up to the position is on disk. Callers that come
// during a sync wait, and then one sync serves all of them.
func (j *journal) sync(position int64) error {
	if j.synced.Load() >= position {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced.Load() >= position {
		return nil
	}
	reached := j.written.Load()
	if err := j.flush(); err != nil {
		return fmt.Errorf("syncing the journal: %w", err)
	}
	j.synced.Store(reached)
	return nil
}

// empty removes all lines.
func (j *journal) empty() error {
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("emptying the journal: %w", err)
	}
	return nil
}

// close syncs what was written and unlocks the file.
func (j *journal) close() error {
	return errors.Join(j.sync(j.written.Load()), j.file.Close())
}
