// Package recording keeps a trace in a file: a [Writer] takes what a [stream.Source]
// passes on, and a [Reader] is a stream.Source that passes the same on again, event by
// event and tick by tick, with the same stacks, clocks and totals. No view can tell it
// from the live process.
//
// A recording is a header and blocks. A block holds up to 65,536 events or some second of
// the trace, and everything that these name: texts, stacks, threads. So it needs no
// block before it; a file that ends anywhere can be read up to its last whole block, and
// the blocks of the last minute are a recording once a header is put before them. Within
// a block each field of the events is a column, which is coded as the difference to what
// is likely, and then compressed. docs/design/recording.md has the bytes and the reasons.
//
// Both sides need memory for one block and for the distinct texts and stacks of the
// program only, however long the recording is. Every byte that is read may be hostile: lengths
// are bounded before anything is allocated, each block has a checksum, and no event of a
// damaged block is passed on.
package recording
