// Package perfetto writes a stream of events as a Perfetto trace, for
// ui.perfetto.dev and trace_processor: a sequence of protobuf TracePackets, each
// written when its event comes. Memory is bounded by the live goroutines and by a
// fixed number of names, not by the length of the stream.
//
// What is on which track is in docs/design/perfetto.md. The package is pure: events
// and a writer in, bytes out. A Writer is not safe for concurrent use.
package perfetto
