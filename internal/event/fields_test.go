package event

import "reflect"

// unset lists the fields of a struct, and of all structs in it, that are zero
// in every place where they occur.
func unset(value any, path string) []string {
	seen := map[string]bool{} // by path, whether it was set anywhere
	var order []string
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), path)
			}
		case reflect.Struct:
			if _, isTime := v.Interface().(interface{ IsZero() bool }); isTime {
				return
			}
			for i := range v.NumField() {
				at := path + "." + v.Type().Field(i).Name
				if _, known := seen[at]; !known {
					order = append(order, at)
				}
				seen[at] = seen[at] || !v.Field(i).IsZero()
				walk(v.Field(i), at)
			}
		default:
		}
	}
	walk(reflect.ValueOf(value), path)
	var out []string
	for _, at := range order {
		if !seen[at] {
			out = append(out, at)
		}
	}
	return out
}
