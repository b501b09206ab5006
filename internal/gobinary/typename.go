package gobinary

// TypeName is the name of the type whose descriptor is at addr, as
// reflect.Type.String has it: "map[string]int", "*main.conn". It is false for an
// address that no descriptor of the file can have, such as that of a type which
// the program made with package reflect.
func (f *File) TypeName(addr uint64) (string, bool) {
	if !f.isType(addr) {
		return "", false
	}
	name := f.typeString(addr)
	return name, name != ""
}
