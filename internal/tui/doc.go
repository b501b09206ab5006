// Package tui is the full screen of gopherscope top: a [Model] that is fed with
// samples of a process and with keys, and draws tables of its goroutines.
//
// The Model is a function of what it is fed with. All that touches a system is
// behind [Host], which the caller has: reading the process, switching the engine on
// and off, writing a file. [Run] puts a Model on a terminal.
//
// Of a recording ([Options.Recorded]) the Host has a [Replay], which makes a Sample of any of its
// moments, and keys go from one to another.
//
// Figures of two kinds meet on the screen. What a goroutine is doing comes from
// samples, which are readings of memory (package dump): they cost the process
// nothing and miss what happens in between. Rates and latencies come from every
// change of state ([Recorder]), and are there only while an engine is attached; of a recording both come from that.
package tui
