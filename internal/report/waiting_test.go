package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"gopherscope/internal/dump"
	"gopherscope/internal/testenv"
)

// waitingOn is objects of all kinds, in all the states that the writers tell apart.
// The goroutines are those of the Dump, which nothing else is asked of.
func waitingOn() *Waiting {
	on := func(how dump.WaitHow, gs ...int32) (ws []dump.Waiter) {
		for _, g := range gs {
			ws = append(ws, dump.Waiter{G: g, How: how})
		}
		return ws
	}
	many := dump.WaitObject{Kind: dump.KindSemaphore, Addr: 0x700, RefsMore: 7, Global: dump.GlobalNear}
	for i := range int32(12) {
		many.Waiters = append(many.Waiters, dump.Waiter{G: 2, How: dump.HowAcquire})
		many.Refs = append(many.Refs, dump.ObjectRef{G: i, Near: i%2 == 0})
	}
	w := &dump.Waiting{
		Waiters: 20, Moved: 3, Unknown: 2, Unsearched: 1,
		Objects: []dump.WaitObject{
			{
				Kind: dump.KindChan, Addr: 0x100, Chan: dump.ChanState{Elem: "map[string]int", Len: 2, Cap: 2, Closed: true, Receivers: 1, Senders: 2, QueueCut: true},
				Waiters: append(on(dump.HowSend, 2, 3), dump.Waiter{G: 6, How: dump.HowReceive, Select: true}),
				Refs:    []dump.ObjectRef{{G: 0}, {G: 7, Near: true}},
			},
			{Kind: dump.KindChan, Addr: 0x110, Chan: dump.ChanState{Elem: "main.evil" + escape}, Waiters: on(dump.HowReceive, 10), Global: dump.GlobalExact},
			{Kind: dump.KindChan, Addr: 0x120, Chan: dump.ChanState{Timer: true}, Waiters: on(dump.HowReceive, 2)},
			{Kind: dump.KindChan, Addr: 0x130, Chan: dump.ChanState{Elem: "time.Time", Cap: 1}, Waiters: on(dump.HowReceive, 2)},
			{Kind: dump.KindMutex, Addr: 0x200, Lock: dump.LockState{Locked: true, Starving: true, Queued: 2}, Waiters: on(dump.HowLock, 8), Refs: []dump.ObjectRef{{G: 9}}},
			{Kind: dump.KindMutex, Addr: 0x208, Waiters: on(dump.HowLock, 9), Refs: []dump.ObjectRef{{G: 8}}, Global: dump.GlobalSelf},
			{Kind: dump.KindRWMutex, Addr: 0x300, Lock: dump.LockState{Locked: true, Writer: true, Readers: 1}, Waiters: on(dump.HowRLock, 4)},
			{Kind: dump.KindRWMutex, Addr: 0x318, Lock: dump.LockState{Writer: true, Readers: 2}, Waiters: on(dump.HowLock, 4)},
			{Kind: dump.KindRWMutex, Addr: 0x330, Lock: dump.LockState{Readers: 1}, Waiters: on(dump.HowLock, 4)},
			{Kind: dump.KindWaitGroup, Addr: 0x400, Group: dump.GroupState{Counter: 3, Waiting: 1}, Waiters: on(dump.HowWait, 5)},
			{Kind: dump.KindCond, Addr: 0x500, Waiters: on(dump.HowWait, 5)},
			many,
			{Kind: dump.KindNilChan, Waiters: on(dump.HowSend, 2)},
			{Kind: dump.KindNoCases, Waiters: on(dump.HowSelect, 2)},
		},
	}
	return &Waiting{Dump: goroutines(), Waiting: dump.NewWaiting(w)}
}

func TestWaitingGolden(t *testing.T) {
	r := waitingOn()
	var text, lines bytes.Buffer
	if err := errors.Join(r.Text(&text), r.JSON(&lines)); err != nil {
		t.Fatal(err)
	}
	text.WriteString(r.Summary() + "\n")
	for name, got := range map[string]string{"waiting.txt": text.String(), "waiting.jsonl": lines.String()} {
		testenv.Golden(t, filepath.Join("testdata", name+".golden"), []byte(got))
		for _, c := range got {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Errorf("%s has the raw character %U", name, c)
			}
		}
	}
}

// TestWaitingJSONKeys holds docs/usage/waiting-on.md to the keys that are written.
func TestWaitingJSONKeys(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "usage", "waiting-on.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ = bytes.Cut(page, []byte("## JSON"))
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllSubmatch(page, -1) {
		documented[string(m[1])] = true
	}
	var out bytes.Buffer
	if err := waitingOn().JSON(&out); err != nil {
		t.Fatal(err)
	}
	keys, types := map[string]bool{}, map[any]int{}
	for line := range strings.Lines(out.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		types[v["type"]]++
		delete(v, "type")
		collect(v, keys)
	}
	for key := range keys {
		if !documented[key] {
			t.Errorf("docs/usage/waiting-on.md does not list the key %q", key)
		}
	}
	if types["object"] != 14 || types["cycle"] != 1 || types["summary"] != 1 {
		t.Errorf("lines by type: %v", types)
	}
}

// Only what the chosen goroutines wait on is written.
func TestWaitingShown(t *testing.T) {
	r := waitingOn()
	r.Shown = func(g *dump.Goroutine) bool { return g.ID == 13 }
	var out bytes.Buffer
	if err := r.Text(&out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "0x110") != 1 || strings.Contains(got, "0x100") || strings.Contains(got, "deadlock") {
		t.Errorf("written for goroutine 13:\n%s", got)
	}
}

func TestWaitingWriteError(t *testing.T) {
	full := errors.New("disk full")
	r := waitingOn()
	if err := r.Text(fullDisk{full}); !errors.Is(err, full) {
		t.Errorf("Text: %v", err)
	}
	if err := r.JSON(fullDisk{full}); !errors.Is(err, full) {
		t.Errorf("JSON: %v", err)
	}
}

// TestWaitingAlike: objects of which the same can be said are one entry if they are
// many, each goroutine counts once, and those that differ or are in a cycle stand alone.
func TestWaitingAlike(t *testing.T) {
	likes := func(n int, first uint64, refs ...dump.ObjectRef) (objects []dump.WaitObject) {
		for i := range uint64(n) {
			objects = append(objects, dump.WaitObject{
				Kind: dump.KindChan, Addr: first + i, Chan: dump.ChanState{Elem: "main.answer" + escape, Senders: 1},
				Waiters: []dump.Waiter{{G: 2 + int32(i%2), How: dump.HowSend}}, Refs: refs,
			})
		}
		return objects
	}
	var w dump.Waiting
	w.Objects = append(w.Objects, likes(5, 0x100)...)                                                         // alike
	w.Objects = append(w.Objects, likes(4, 0x200, dump.ObjectRef{G: 0}, dump.ObjectRef{G: 7, Near: true})...) // alike, and others refer to them
	w.Objects[6].Global, w.Objects[7].RefsMore = dump.GlobalExact, 3
	closed := likes(3, 0x300) // alike, but few
	for i := range closed {
		closed[i].Chan.Closed = true
	}
	w.Objects = append(w.Objects, closed...)
	w.Objects = append(w.Objects,
		dump.WaitObject{Kind: dump.KindMutex, Addr: 0x400, Waiters: []dump.Waiter{{G: 8, How: dump.HowLock}}, Refs: []dump.ObjectRef{{G: 9}}},
		dump.WaitObject{Kind: dump.KindMutex, Addr: 0x408, Waiters: []dump.Waiter{{G: 9, How: dump.HowLock}}, Refs: []dump.ObjectRef{{G: 8}}},
	)
	r := &Waiting{Dump: goroutines(), Waiting: dump.NewWaiting(&w)}
	var out bytes.Buffer
	if err := r.Text(&out); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, filepath.Join("testdata", "waitingalike.txt.golden"), out.Bytes())
}
