package server

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"

	"attachd/server/api"
	"attachd/server/page"
)

// openAPI30File is openapi.json in OpenAPI 3.0, for generators of clients that do not read 3.1.
var openAPI30File = sync.OnceValue(func() page.File {
	return page.NewFile("application/json", toOpenAPI30(openAPIDocument))
})

// openAPI30 answers with openapi.json in OpenAPI 3.0.
func (s *Server) openAPI30(w *api.Response, rq *api.Request, sc api.Scope) error {
	return answerFile(w, rq, openAPI30File())
}

// jsonObject is a JSON object with its members in their order, which is that in which
// people read them.
type jsonObject []jsonEntry

type jsonEntry struct {
	name  string
	value any // a jsonObject, a []any, or a json.Token of a single value
}

// toOpenAPI30 converts a document from OpenAPI 3.1, without what 3.0 cannot say: webhooks,
// and what a string has in it.
func toOpenAPI30(document []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var converted jsonObject
	for _, e := range readOrdered(decoder).(jsonObject) {
		switch e.name {
		case "webhooks":
			continue
		case "openapi":
			e.value = "3.0.3"
		case "info":
			e.value = slices.DeleteFunc(e.value.(jsonObject), func(e jsonEntry) bool { return e.name == "summary" })
		default:
			e.value = partTo30(e.value)
		}
		converted = append(converted, e)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, appendOrdered(nil, converted), "", "  "); err != nil {
		panic(err) // it is JSON
	}
	return append(indented.Bytes(), '\n')
}

// partTo30 converts a part of a document that is no schema.
func partTo30(part any) any {
	switch part := part.(type) {
	case []any:
		return each(part, partTo30)
	case jsonObject:
		var converted jsonObject
		for _, e := range part {
			switch e.name {
			case "example", "examples": // these are data
			case "schema":
				e.value = schemaTo30(e.value)
			case "schemas":
				e.value = schemasTo30(e.value)
			default:
				e.value = partTo30(e.value)
			}
			converted = append(converted, e)
		}
		return converted
	}
	return part
}

// schemaTo30 converts a schema.
func schemaTo30(schema any) any {
	members, is := schema.(jsonObject)
	if !is {
		return schema // true or false
	}
	var converted jsonObject
	for _, e := range members {
		switch e.name {
		case "contentMediaType", "contentSchema":
			continue
		case "$ref":
			if len(members) > 1 { // 3.0 does not look at what stands beside a reference
				e = jsonEntry{"allOf", []any{jsonObject{e}}}
			}
		case "const":
			e = jsonEntry{"enum", []any{e.value}}
		case "examples":
			e = jsonEntry{"example", e.value.([]any)[0]}
		case "type":
			if several, is := e.value.([]any); is && len(several) == 2 && several[1] == "null" {
				converted = append(converted, jsonEntry{"type", several[0]})
				e = jsonEntry{"nullable", true}
			}
		case "properties":
			e.value = schemasTo30(e.value)
		case "items", "additionalProperties":
			e.value = schemaTo30(e.value)
		case "allOf", "oneOf":
			e.value = each(e.value.([]any), schemaTo30)
		}
		converted = append(converted, e)
	}
	return converted
}

// schemasTo30 converts schemas that have names.
func schemasTo30(named any) any {
	converted := slices.Clone(named.(jsonObject))
	for i, e := range converted {
		converted[i].value = schemaTo30(e.value)
	}
	return converted
}

func each(list []any, convert func(any) any) []any {
	converted := make([]any, 0, len(list))
	for _, item := range list {
		converted = append(converted, convert(item))
	}
	return converted
}

// readOrdered reads a value of valid JSON.
func readOrdered(decoder *json.Decoder) any {
	next := func() json.Token {
		token, err := decoder.Token()
		if err != nil {
			panic(err) // it is embedded, and tests read it
		}
		return token
	}
	switch token := next(); token {
	case json.Delim('{'):
		object := jsonObject{}
		for decoder.More() {
			name := next().(string)
			object = append(object, jsonEntry{name, readOrdered(decoder)})
		}
		next()
		return object
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			list = append(list, readOrdered(decoder))
		}
		next()
		return list
	default:
		return token
	}
}

func appendOrdered(out []byte, value any) []byte {
	switch value := value.(type) {
	case jsonObject:
		out = append(out, '{')
		for i, e := range value {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendOrdered(out, e.name), ':')
			out = appendOrdered(out, e.value)
		}
		return append(out, '}')
	case []any:
		out = append(out, '[')
		for i, item := range value {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendOrdered(out, item)
		}
		return append(out, ']')
	}
	raw, err := api.Encode(value)
	if err != nil {
		panic(err) // it was read from JSON
	}
	return append(out, bytes.TrimSuffix(raw, []byte("\n"))...)
}
