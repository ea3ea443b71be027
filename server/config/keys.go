package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// key is one field of Config.
type key struct {
	name  string // as in a file, with its section: limits.max_file_size
	index []int  // of the field
	tag   reflect.StructTag
}

// keys are all keys of Config, in its order; sections are the tables that contain them.
var keys, sections = declared()

func declared() (keys []key, sections []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := f.Tag.Get("toml")
		if f.Type.Kind() != reflect.Struct {
			keys = append(keys, key{name, f.Index, f.Tag})
			continue
		}
		sections = append(sections, name)
		for _, in := range reflect.VisibleFields(f.Type) {
			keys = append(keys, key{name + "." + in.Tag.Get("toml"), append(slices.Clone(f.Index), in.Index...), in.Tag})
		}
	}
	return keys, sections
}

func keyNames() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

// StorageSettings returns the values of the keys of the section storage, in the form that
// Load takes as flags.
func (c Config) StorageSettings() map[string]string {
	settings := map[string]string{}
	for _, k := range keys {
		if k.name == "data_dir" || strings.HasPrefix(k.name, "storage.") || strings.HasPrefix(k.name, "metadata.") {
			settings[k.name] = fmt.Sprint(k.field(&c).Interface())
		}
	}
	return settings
}

func keyNamed(name string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// setText sets the key from text, in the form of the environment and of flags.
func (k key) setText(c *Config, text string) error {
	return k.set(c, fromText(k.field(c).Interface(), text))
}

// fromText converts text to the TOML value that a field of the given type needs. Text
// that cannot be converted is returned as it is, and refused by set.
func fromText(field any, text string) any {
	switch field.(type) {
	case bool:
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	case int:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case []string, []netip.Prefix:
		items := []any{}
		if strings.TrimSpace(text) != "" {
			for item := range strings.SplitSeq(text, ",") {
				items = append(items, strings.TrimSpace(item))
			}
		}
		return items
	}
	return text
}

// set validates a decoded TOML value and stores it in the key's field.
func (k key) set(c *Config, value any) error {
	if err := k.assign(c, value); err != nil {
		return err
	}
	number := k.field(c)
	if least, ok := k.bound("min"); ok && number.Int() < least {
		return fmt.Errorf("must be at least %s, found %s", k.tag.Get("min"), found(value))
	}
	if most, ok := k.bound("max"); ok && number.Int() > most {
		return fmt.Errorf("must be at most %s, found %s", k.tag.Get("max"), found(value))
	}
	return nil
}

func (k key) assign(c *Config, value any) (err error) {
	switch field := k.field(c).Addr().Interface().(type) {
	case *string:
		*field, err = k.text(value)
	case *bool:
		*field, err = as[bool](value, "true or false")
	case *int:
		*field, err = wholeNumber(value)
	case *Size:
		*field, err = size(value)
	case *Duration:
		*field, err = duration(value)
	case *[]string:
		*field, err = list(value, k.text)
	case *[]netip.Prefix:
		*field, err = list(value, network)
	default:
		panic(fmt.Sprintf("config: no file can set a %T: %s", field, k.name))
	}
	return err
}

// bound returns the number in the tag min or max, if there is one.
func (k key) bound(tag string) (int64, bool) {
	text, ok := k.tag.Lookup(tag)
	if !ok {
		return 0, false
	}
	var c Config
	if err := k.assign(&c, fromText(k.field(&c).Interface(), text)); err != nil {
		panic(fmt.Sprintf("config: %s of %s: %v", tag, k.name, err))
	}
	return k.field(&c).Int(), true
}

// text validates a string, which may be an item of a list, against the key's tags.
func (k key) text(value any) (string, error) {
	s, err := as[string](value, "a string")
	if err != nil {
		return "", err
	}
	if allowed, ok := k.tag.Lookup("oneof"); ok && !slices.Contains(strings.Fields(allowed), s) {
		return "", expected("one of "+strings.Join(strings.Fields(allowed), ", "), value)
	}
	if form, ok := k.tag.Lookup("form"); ok {
		return forms[form](s)
	}
	return s, nil
}

func (k key) field(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.index)
}
