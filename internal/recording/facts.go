package recording

import (
	"encoding/binary"
	"math"

	"gopherscope/internal/stream"
)

// The sections of an info block.
const (
	infoEngine    = 1
	infoGoVersion = 2
	infoArch      = 3
	infoPID       = 4
	infoExe       = 5
	infoCommand   = 6
	infoProcs     = 7
	infoStacks    = 8
	infoBegin     = 9
	infoWall      = 10
	infoBase      = 11 // totals of the trace before the recording began
	infoTool      = 12 // what recorded it, for people
)

func number(v int64) []byte { return binary.AppendVarint(nil, v) }

// appendInfo appends the payload of an info block.
func appendInfo(b []byte, i *stream.Info, base *stream.Totals, tool string) []byte {
	b = appendSection(b, infoEngine, []byte(i.Engine))
	b = appendSection(b, infoGoVersion, []byte(i.GoVersion))
	b = appendSection(b, infoArch, []byte(i.Arch))
	b = appendSection(b, infoPID, number(int64(i.PID)))
	b = appendSection(b, infoExe, []byte(i.Exe))
	if i.Command != nil {
		var args []byte
		for _, arg := range i.Command {
			args = appendText(args, arg)
		}
		b = appendSection(b, infoCommand, args)
	}
	b = appendSection(b, infoProcs, number(int64(i.Procs)))
	if i.Stacks {
		b = appendSection(b, infoStacks, nil)
	}
	b = appendSection(b, infoBegin, number(i.Begin))
	b = appendSection(b, infoWall, number(i.Wall))
	b = appendSection(b, infoBase, appendTotals(nil, base))
	return appendSection(b, infoTool, []byte(tool))
}

// facts is what an info block says.
type facts struct {
	info stream.Info
	base stream.Totals
	tool string
}

func parseInfo(payload []byte) (*facts, error) {
	f := &facts{}
	i := &f.info
	bad := false
	err := sections(payload, func(kind uint64, content []byte) {
		c := cursor{b: content}
		switch kind {
		case infoEngine:
			i.Engine = string(content)
		case infoGoVersion:
			i.GoVersion = string(content)
		case infoArch:
			i.Arch = string(content)
		case infoPID:
			i.PID = int(c.varint())
		case infoExe:
			i.Exe = string(content)
		case infoCommand:
			i.Command = []string{}
			for len(c.b) > 0 {
				i.Command = append(i.Command, string(c.text()))
			}
		case infoProcs:
			i.Procs = int(c.varint())
		case infoStacks:
			i.Stacks = true
		case infoBegin:
			i.Begin = c.varint()
		case infoWall:
			i.Wall = c.varint()
		case infoBase:
			f.base = parseTotals(&c)
		case infoTool:
			f.tool = string(content)
		}
		bad = bad || c.bad
	})
	if err != nil || bad {
		return nil, errMalformed
	}
	return f, nil
}

// Totals are three lists, each with its length, and a reader ignores what is behind the part
// that it knows: so a list can grow at its end in a minor version.

// times are the numbers of totals that can have a sign, in the order in which they are written.
func times(t *stream.Totals) []*int64 {
	return []*int64{&t.Now, (*int64)(&t.Cost.Total), (*int64)(&t.TargetCPU), (*int64)(&t.Paused)}
}

// counts are the numbers of totals that have none.
func counts(t *stream.Totals) []*uint64 {
	l, h := &t.Lost, &t.Cost.Hits
	return []*uint64{
		&l.RingFull, &l.ReadFault, &l.Recursion, &l.Processes, &l.NoRing, &l.Corrupt,
		&h.Uprobes, &h.Syscalls, &h.Inline, &t.Gaps,
		&t.NoStack.Full, &t.NoStack.Unread,
		&t.NoStack.Budget, &h.Stacks,
	}
}

// prices are the fractions of totals.
func prices(t *stream.Totals) []*float64 {
	return []*float64{&t.Cost.NsPerUprobe, &t.Cost.NsPerSyscall, &t.Cost.NsPerInline, &t.Cost.NsPerStack}
}

func appendTotals(b []byte, t *stream.Totals) []byte {
	list := times(t)
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, ns := range list {
		b = binary.AppendVarint(b, *ns)
	}
	ns := counts(t)
	b = binary.AppendUvarint(b, uint64(len(ns)))
	for _, n := range ns {
		b = binary.AppendUvarint(b, *n)
	}
	of := prices(t)
	b = binary.AppendUvarint(b, uint64(len(of)))
	for _, p := range of {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(*p))
	}
	return b
}

func parseTotals(c *cursor) stream.Totals {
	var t stream.Totals
	parseList(c, times(&t), (*cursor).varint)
	parseList(c, counts(&t), (*cursor).uvarint)
	parseList(c, prices(&t), (*cursor).price)
	return t
}

// parseList reads a list into the places that there are for it.
func parseList[T any](c *cursor, list []*T, read func(*cursor) T) {
	n := c.uvarint()
	for i := uint64(0); i < n && !c.bad; i++ {
		if v := read(c); i < uint64(len(list)) {
			*list[i] = v
		}
	}
}

// price reads a fraction. What is no number is not known: no view could print it.
func (c *cursor) price() float64 {
	if v := math.Float64frombits(c.fixed64()); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return v
	}
	return 0
}
