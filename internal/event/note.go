package event

// AppendNote appends the text form of a remark of the recorder about a moment of a trace, without a
// newline. It is no event, and [ParseText] refuses it:
//
//	note mono_ns=5021 cause="runnable > 200" detail="runnable = 270"
func AppendNote(b []byte, mono int64, cause, detail string) []byte {
	b = appendInt(append(b, "note"...), "mono_ns", mono)
	b = appendWord(appendKey(b, "cause"), cause)
	if detail != "" {
		b = appendWord(appendKey(b, "detail"), detail)
	}
	return b
}
