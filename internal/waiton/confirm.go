package waiton

import "context"

// confirm reads the sudogs and then the g structs of the waiters once more, and
// marks those that moved.
func (f *finder) confirm(ctx context.Context) error {
	for first := 0; first < len(f.waiters); {
		if err := ctx.Err(); err != nil {
			return err
		}
		last, sudogs := first, 0
		for last < len(f.waiters) && last < first+chunkSize && (last == first || sudogs < 4*chunkSize) {
			sudogs += int(f.waiters[last].n)
			last++
		}
		if err := f.confirmSome(f.waiters[first:last], sudogs); err != nil {
			return err
		}
		first = last
	}
	return nil
}

func (f *finder) confirmSome(ws []waiter, sudogs int) error {
	size, gsize := int(f.t.Layout.Sudog.Size), int(f.t.Layout.G.Size)
	f.begin(sudogs+len(ws), sudogs*size+len(ws)*gsize)
	for i := range ws {
		for _, s := range f.sudogs[ws[i].first : ws[i].first+ws[i].n] {
			f.want(s.addr, size)
		}
	}
	for i := range ws {
		f.want(f.d.Goroutines[ws[i].g].Addr, gsize)
	}
	if err := f.run(); err != nil {
		return err
	}
	at := 0
	for i := range ws {
		w := &ws[i]
		for _, old := range f.sudogs[w.first : w.first+w.n] {
			b := f.piece(at)
			at++
			if b == nil {
				w.moved = true
				continue
			}
			if s, _ := f.sudog(old.addr, b); s.g != old.g || s.elem != old.elem || s.c != old.c {
				w.moved = true
			}
		}
		if b := f.piece(sudogs + i); b == nil || f.gState(b) != w.state {
			w.moved = true
		}
	}
	return nil
}
