package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
)

// traceAsTutorial is the design that this tool began as, in a process of its
// own as gopherscope is: it prints the table of a process to standard output
// until it is interrupted, and then what it counted to standard error.
func traceAsTutorial(path, pid string) (err error) {
	id, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	offset, goid, err := findCasgstatus(path)
	if err != nil {
		return err
	}
	a, err := attach(path, id, []uint64{offset}, goid, func(o *tutorialObjects) *ebpf.Program { return o.OnCasgstatus })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.objs.Close()) }()
	reader, err := ringbuf.NewReader(a.objs.Events)
	if err != nil {
		return errors.Join(err, a.link.Close())
	}
	began := time.Now()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	go func() {
		<-stop
		// Flushed, the reader still gives what is left in the ring.
		a.link.Close()
		_ = reader.Flush() // fails when the reader is closed: then it gives nothing more
	}()
	n, err := printTable(os.Stdout, reader)
	if err := errors.Join(err, reader.Close()); err != nil {
		return err
	}
	var lost uint64
	if err := a.objs.Lost.Get(&lost); err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stderr, "%d events in %s, %d lost\n", n, time.Since(began), lost)
	return err
}

// findCasgstatus is the file offset of the entry of runtime.casgstatus and the
// offset of goid in a g.
func findCasgstatus(path string) (offset uint64, goid uint32, err error) {
	bin, err := gobinary.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer bin.Close()
	g, err := bin.Struct("runtime.g")
	if err != nil {
		return 0, 0, err
	}
	field, ok := g.Offset("goid")
	fn, ok2 := bin.Func("runtime.casgstatus")
	offset, ok3 := bin.FileOffset(fn.Entry)
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("casgstatus or goid not found")
	}
	return offset, uint32(field), nil
}

// attached is a program of tutorial.bpf.c in the target.
type attached struct {
	objs *tutorialObjects
	link link.Link
}

func (a attached) Close() error { return errors.Join(a.link.Close(), a.objs.Close()) }

// attach loads tutorial.bpf.c and attaches one of its programs to a process, at
// offsets in its file.
func attach(path string, pid int, offsets []uint64, offGoID uint32, choose func(*tutorialObjects) *ebpf.Program) (attached, error) {
	spec, err := loadTutorial()
	if err != nil {
		return attached{}, err
	}
	if err := spec.Variables[tutorialVarOffGoid].Set(offGoID); err != nil {
		return attached{}, err
	}
	for _, p := range spec.Programs {
		p.AttachType = ebpf.AttachTraceUprobeMulti
	}
	objs := &tutorialObjects{}
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		return attached{}, err
	}
	exe, err := link.OpenExecutable(path)
	if err != nil {
		return attached{}, errors.Join(err, objs.Close())
	}
	l, err := exe.UprobeMulti(nil, choose(objs), &link.UprobeMultiOptions{Addresses: offsets, PID: uint32(pid)})
	if err != nil {
		return attached{}, errors.Join(err, objs.Close())
	}
	return attached{objs, l}, nil
}

// printTable prints the tutorial's table, TIME STATE GOID PID TGID, until the
// reader is flushed, and returns the number of lines.
func printTable(w io.Writer, reader *ringbuf.Reader) (n uint64, err error) {
	buf := bufio.NewWriter(w)
	var rec ringbuf.Record
	for {
		if err := reader.ReadInto(&rec); errors.Is(err, ringbuf.ErrFlushed) {
			return n, buf.Flush()
		} else if err != nil {
			return n, err
		}
		le, b := binary.LittleEndian, rec.RawSample
		_, err := fmt.Fprintf(buf, "%-15s %-13s %-8d %-8d %-8d\n", time.Now().Format("15:04:05.000000"),
			goruntime.Status(le.Uint32(b[24:])), le.Uint64(b[8:]), le.Uint32(b[16:]), le.Uint32(b[20:]))
		if err != nil {
			return n, err
		}
		n++
	}
}
