package policy

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// Change is one thing that two policies say differently, in the words of the
// file. Old is empty for what is new, New for what is gone.
type Change struct {
	// Path is where in the file, for example nodearrays[htc].maxNodes.
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Diff tells what changes from one policy to another: in meaning, so that it
// is empty exactly where the versions are equal. fold writes names of nodes as
// a hostlist.
func Diff(from, to Document, fold func([]burst.NodeName) string) []Change {
	before, after := flatten(from, fold), flatten(to, fold)
	was := map[string]string{}
	for _, leaf := range before {
		was[leaf.path] = leaf.text
	}
	var changes []Change
	is := map[string]bool{}
	for _, leaf := range after {
		is[leaf.path] = true
		if old, there := was[leaf.path]; !there || old != leaf.text {
			changes = append(changes, Change{leaf.path, old, leaf.text})
		}
	}
	for _, leaf := range before {
		if !is[leaf.path] {
			changes = append(changes, Change{Path: leaf.path, Old: leaf.text})
		}
	}
	return changes
}

// leaf is one value of a document, as people write it.
type leaf struct{ path, text string }

// flatten gives the leaves in the order of the document. It goes by the JSON
// names, as the version does, so that neither knows a field that the other
// does not.
func flatten(d Document, fold func([]burst.NodeName) string) []leaf {
	var leaves []leaf
	walk("", reflect.ValueOf(d), fold, func(path, text string) { leaves = append(leaves, leaf{path, text}) })
	return leaves
}

func walk(path string, v reflect.Value, fold func([]burst.NodeName) string, emit func(path, text string)) {
	switch value := v.Interface().(type) {
	case time.Duration:
		emit(path, burst.Spell(value))
		return
	case burst.Money:
		emit(path, formatMoney(value))
		return
	case []burst.NodeName:
		emit(path, fold(value))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" || option == "omitempty" && v.Field(i).IsZero() {
				continue
			}
			walk(strings.TrimPrefix(path+"."+name, "."), v.Field(i), fold, emit)
		}
	case reflect.Slice:
		walkList(path, v, fold, emit)
	default:
		if size, found := strings.CutSuffix(path, ".memoryMiB"); found {
			emit(size+".memory", formatMemory(v.Int()))
			return
		}
		emit(path, fmt.Sprint(v.Interface()))
	}
}

// walkList names the elements of a list by what makes them the same element in
// another policy. The order of nodearrays is their rank.
func walkList(path string, v reflect.Value, fold func([]burst.NodeName) string, emit func(path, text string)) {
	var keys []string
	seen := map[string]int{}
	for i := range v.Len() {
		key := ""
		switch element := v.Index(i).Interface().(type) {
		case Nodearray:
			key = string(element.Name)
		case Share:
			key = element.Name
		case Budget:
			key = strings.TrimSpace(fmt.Sprintf("%s %s", element.Scope, element.Name)) + " per " + string(element.Period)
		case Overflow:
			seen[element.Partition]++
			key = fmt.Sprintf("%s %d", element.Partition, seen[element.Partition])
		case Opening:
			key = fmt.Sprint(i + 1)
		default:
			keys = append(keys, fmt.Sprint(element))
			continue
		}
		keys = append(keys, key)
		walk(path+"["+key+"]", v.Index(i), fold, emit)
	}
	switch v.Interface().(type) {
	case []Nodearray, []string, []burst.NodearrayName:
		emit(path, strings.Join(keys, ", "))
	}
}

// formatMemory writes MiB as people do: 15GiB.
func formatMemory(mib int64) string {
	switch {
	case mib%(1<<20) == 0:
		return fmt.Sprintf("%dTiB", mib>>20)
	case mib%(1<<10) == 0:
		return fmt.Sprintf("%dGiB", mib>>10)
	}
	return fmt.Sprintf("%dMiB", mib)
}
