package gotrace

// SetGeneration makes a generation at least so many bytes long.
func (w *Writer) SetGeneration(n int64) { w.least = n }
