package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc, which is the same on every Linux
// (USER_HZ).
const tick = 10 * time.Millisecond

// What follows reads /proc, which only Linux has. On other systems all of these
// figures are 0.

// A usage is the processor time that a process has used.
type usage struct {
	parent   int
	own      time.Duration
	children time.Duration // those that have ended and were waited for
}

// usageOf reads the usage of a process. One that is gone has used nothing more.
func usageOf(pid int) usage {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}
	}
	return parseUsage(stat)
}

// parseUsage reads the content of /proc/PID/stat (proc(5)).
func parseUsage(stat []byte) usage {
	// The name is in parentheses, and may hold any character.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const parent, user, system, childrenUser, childrenSystem = 1, 11, 12, 13, 14
	if len(fields) <= childrenSystem {
		return usage{}
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(fields[i]) // the kernel writes numbers
		return n
	}
	return usage{
		parent:   number(parent),
		own:      time.Duration(number(user)+number(system)) * tick,
		children: time.Duration(number(childrenUser)+number(childrenSystem)) * tick,
	}
}

// treeTime is the processor time of a process and of all its children, those
// that have ended included: a Postgres server with its backends, its
// checkpointer, its WAL writer and its autovacuum.
func treeTime(pid int) time.Duration {
	root := usageOf(pid)
	total := root.own + root.children
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, dir := range processes {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if u := usageOf(child); u.parent == pid {
			total += u.own
		}
	}
	return total
}

// memory is how many bytes of memory this process and its children may have:
// those of the machine, or of its container.
func memory() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	total := parseMemory(info)
	for _, limit := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, _ := os.ReadFile(limit) // there is one of them, or none
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			total = min(total, n)
		}
	}
	return total
}

// parseMemory reads the first line of /proc/meminfo (proc(5)).
func parseMemory(info []byte) int64 {
	var kilobytes int64
	_, _ = fmt.Sscanf(string(info), "MemTotal: %d kB", &kilobytes) // what isn't so is 0
	return kilobytes << 10
}

// ownTime is the processor time of this process: the load.
func ownTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A machineTime is what all processors together have done.
type machineTime struct {
	busy  time.Duration // for processes; interrupts are nobody's
	steal time.Duration // what the hypervisor gave to other machines
}

func readMachine() machineTime {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTime{}
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var t machineTime
	const idle, steal = 4, 8
	for i, field := range strings.Fields(line) {
		n, err := strconv.Atoi(field)
		switch {
		case err != nil:
		case i < idle: // user, nice and system, after the line's name
			t.busy += time.Duration(n) * tick
		case i == steal:
			t.steal = time.Duration(n) * tick
		}
	}
	return t
}

// resetPeak begins a new measurement of a process's peak memory. Where that
// isn't allowed, the peak stays that of the process's life.
func resetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}

// peakMemory is the most memory that a process had at once, in bytes.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, _ := strconv.ParseInt(kilobytes, 10, 64) // 0 if there is no such line
	return n << 10
}

// writeback is the setting that says how much may be unwritten before the
// kernel begins to write it to disk, or "unknown". The more it gathers, the
// longer no transaction commits when it does.
func writeback() string {
	for _, name := range []string{"dirty_background_bytes", "dirty_background_ratio"} { // 0 if the other one is set
		text, err := os.ReadFile("/proc/sys/vm/" + name)
		if value := strings.TrimSpace(string(text)); err == nil && value != "0" {
			return "vm." + name + "=" + value
		}
	}
	return "unknown"
}

// loadAverage is that of the last minute, or "unknown".
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// processorName is the model of the processors, or their architecture.
func processorName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}
