package perfetto

// Limit sets how many texts and stacks are kept before the tables begin anew.
func (w *Writer) Limit(n int) { w.seq.limit = n }
