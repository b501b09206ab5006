// Package trigger decides when something worth recording happens: a [Condition] is a
// text such as "runnable > 200 for 3s", and a [Watch] follows a stream of events and says
// when one comes to hold.
//
// # Grammar
//
//	condition = term { "and" term } [ "for" duration ]
//	term      = figure operator value
//	figure    = "goroutines" | "running" | "runnable" | "syscall" | "waiting" [ reason ]
//	          | "created" | "lost"
//	          | "sched" "." part | "block" [ reason ] "." part
//	reason    = "[" "'" text "'" "]"
//	part      = "p50" | "p90" | "p99" | "p999" | "max" | "total"
//	operator  = ">" | ">=" | "<" | "<="
//	value     = number [ "k" | "M" ] | duration | number "x"
//
// # When a condition holds
//
// A Watch looks ten times a second of event time. Counts of goroutines are those of that
// moment; but for a condition without "for" their peak since the last look
// counts, the highest for > and the lowest for <. All other figures are of the second up
// to the look. A value with "x" is a factor of the figure's median over the looks of the
// last minute, once there are ten seconds of them. A figure that is not known, as
// a quantile of no durations, fulfils no term.
//
// While a gap lasts no time passes for a Watch. After it, of some goroutines it is not known whether they
// are there, and in which state: a term on a count is fulfilled only if it is whatever they
// do, and false only if it is whatever they do.
//
// A condition fires when it comes to hold, and again only after it was clearly false:
// one of its terms by a tenth of its bound.
//
// Everything is a pure function of the stream. Nothing here is safe for concurrent use, but a
// Condition never changes.
package trigger
