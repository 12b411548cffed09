package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"strings"
)

// toTree turns v into what its JSON holds, so that templates use the JSON's
// names. What the JSON leaves out, being empty, is there for templates: with
// {{if .State.Health}} they may ask for it.
func toTree(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	tree = withEmpty(withNumbers(tree), reflect.ValueOf(v))
	if o, ok := tree.(object); ok && o["Id"] != nil {
		o.add("ID", o["Id"]) // docker's templates know both
	}
	return tree, nil
}

// object is a struct in a tree. Its JSON is without what was added for templates,
// whose names are below the key added.
type object map[string]any

const added = " added"

func (o object) add(name string, value any) {
	o[name] = value
	names, _ := o[added].([]string)
	o[added] = append(names, name)
}

// MarshalJSON writes the object as its own JSON had it.
func (o object) MarshalJSON() ([]byte, error) {
	names, _ := o[added].([]string)
	own := map[string]any(maps.Clone(o))
	delete(own, added)
	for _, name := range names {
		delete(own, name)
	}
	return json.Marshal(own)
}

// withNumbers makes the numbers in a tree ones that templates can compare.
func withNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = withNumbers(value)
		}
	case []any:
		for i, value := range v {
			v[i] = withNumbers(value)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	}
	return v
}

// withEmpty returns a tree with what the JSON of v left out.
func withEmpty(tree any, v reflect.Value) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch tree := tree.(type) {
	case map[string]any:
		switch v.Kind() {
		case reflect.Struct:
			o := object(tree)
			o.addEmpty(v)
			return o
		case reflect.Map:
			for _, key := range v.MapKeys() {
				if name := key.String(); key.Kind() == reflect.String {
					tree[name] = withEmpty(tree[name], v.MapIndex(key))
				}
			}
		}
	case []any:
		if v.Kind() == reflect.Slice && v.Len() == len(tree) {
			for i := range tree {
				tree[i] = withEmpty(tree[i], v.Index(i))
			}
		}
	}
	return tree
}

// addEmpty adds the fields of v that its JSON left out. As docker's templates print
// it, an empty list is [] and an empty map map[].
func (o object) addEmpty(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			o.addEmpty(v.Field(i))
			continue
		case !field.IsExported() || name == "-":
			continue
		case name == "":
			name = field.Name
		}
		value, there := o[name]
		if value != nil {
			o[name] = withEmpty(value, v.Field(i))
			continue
		}
		empty := reflect.Zero(field.Type).Interface()
		switch field.Type.Kind() {
		case reflect.Slice:
			empty = []any(nil)
		case reflect.Map:
			empty = map[string]any(nil)
		}
		if there {
			o[name] = empty // its JSON is null as well
		} else {
			o.add(name, empty)
		}
	}
}
