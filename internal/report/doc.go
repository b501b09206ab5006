// Package report writes events and summaries for people (a table) and for
// programs (JSON, one object a line). It is pure: events and a writer in,
// bytes out. The writers are not safe for concurrent use.
//
// Names that come from the traced binary are never written raw: control
// characters, which could be terminal escapes, are escaped.
package report
