package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/config"
	"attachd/server/content"
)

// The Attachments API, as its own document lists it.
var attachmentsAPI = []string{
	"GET /catalog/spaces/{slug}/products/{product_id}/attachments",
	"POST /catalog/spaces/{slug}/products/{product_id}/attachments",
	"DELETE /catalog/attachments/{attachment_id}",
	"GET /catalog/attachments/{attachment_id}/download",
	"POST /issues/tickets/{ticket_id}/attachments",
	"GET /issues/attachments/{attachment_id}",
	"DELETE /issues/attachments/{attachment_id}",
}

func TestOpenAPIServersAreRelativeSoThatAnyPathPrefixWorks(t *testing.T) {
	doc := parseOpenAPI(t)
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Title != "attachd" || doc.Info.Version == "" {
		t.Errorf("the document is OpenAPI %q of %q, version %q", doc.OpenAPI, doc.Info.Title, doc.Info.Version)
	}
	if len(doc.Servers) != 1 || doc.Servers[0].URL != "." {
		t.Errorf("servers are %v, want the folder that the document is in", doc.Servers)
	}
}

func TestOpenAPIHasNoMemberTwice(t *testing.T) {
	var check func(where string, raw json.RawMessage)
	check = func(where string, raw json.RawMessage) {
		if raw[0] == '[' {
			var list []json.RawMessage
			mustUnmarshal(t, raw, &list)
			for _, item := range list {
				check(where, item)
			}
		}
		if raw[0] != '{' {
			return
		}
		seen := map[string]bool{}
		for _, m := range membersOf(t, raw) {
			if seen[m.name] {
				t.Errorf("%s has %q twice", where, m.name)
			}
			seen[m.name] = true
			check(where+"/"+m.name, m.value)
		}
	}
	check("#", openAPIDocument)
}

func TestOpenAPIHasAnOperationForEveryRouteAndNoOther(t *testing.T) {
	doc := parseOpenAPI(t)
	inTable := map[string]bool{}
	for _, rt := range routes() {
		inTable[rt.Method+" "+documentPath(rt.Pattern)] = true
	}
	for name := range inTable {
		if _, ok := doc.operations[name]; !ok {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range doc.operations {
		// HEAD is not in the table: every GET takes it, and has an operation where it is of use.
		if !inTable[name] && !inTable[strings.Replace(name, "HEAD ", "GET ", 1)] {
			t.Errorf("%s is documented and has no route", name)
		}
	}
}

func TestOpenAPIBeginsWithTheAttachmentsAPIAndMarksTheRestAsExtensions(t *testing.T) {
	doc := parseOpenAPI(t)
	var first []string
	for _, name := range attachmentsAPI {
		if _, path, _ := strings.Cut(name, " "); !slices.Contains(first, path) {
			first = append(first, path)
		}
	}
	begins := slices.Clone(doc.paths[:len(first)])
	slices.Sort(begins)
	slices.Sort(first)
	if !slices.Equal(begins, first) {
		t.Errorf("the document begins with\n%s\nwant\n%s", strings.Join(begins, "\n"), strings.Join(first, "\n"))
	}
	for name, op := range doc.operations {
		marked := strings.HasPrefix(op.Description, "Extension. ")
		if marked == slices.Contains(attachmentsAPI, name) {
			t.Errorf("%s: marked as an extension: %t", name, marked)
		}
	}
}

func TestOpenAPIReferencesLeadSomewhereAndEveryComponentIsUsed(t *testing.T) {
	doc := parseOpenAPI(t)
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
			}
			for _, value := range v {
				walk(value)
			}
		}
	}
	var whole map[string]any
	mustUnmarshal(t, openAPIDocument, &whole)
	walk(whole)
	for ref := range used {
		kind, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
		if _, ok := doc.Components[kind][name]; !ok {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	for kind, components := range doc.Components {
		for name := range components {
			if kind != "securitySchemes" && !used["#/components/"+kind+"/"+name] {
				t.Errorf("component %s/%s is used nowhere", kind, name)
			}
		}
	}
}

func TestOpenAPIOperationsSayWhatTheyDoAndHowTheyEnd(t *testing.T) {
	doc := parseOpenAPI(t)
	var tags []string
	for _, tag := range doc.Tags {
		tags = append(tags, tag.Name)
	}
	named := map[string]string{}
	for name, op := range doc.operations {
		switch other := named[op.OperationID]; {
		case op.OperationID == "":
			t.Errorf("%s has no operationId", name)
		case other != "":
			t.Errorf("%s and %s are both %s", name, other, op.OperationID)
		}
		named[op.OperationID] = name
		if op.Summary == "" || op.Description == "" {
			t.Errorf("%s lacks a summary or a description", name)
		}
		if len(op.Tags) == 0 || !slices.Contains(tags, op.Tags[0]) {
			t.Errorf("%s has the tags %q; those described are %q", name, op.Tags, tags)
		}
		succeeds := false
		for status := range op.Responses {
			succeeds = succeeds || strings.HasPrefix(status, "2")
		}
		if !succeeds {
			t.Errorf("%s has no success", name)
		}
	}
}

func TestOpenAPIOperationsAskForAKeyWhereTheirRoutesDo(t *testing.T) {
	doc := parseOpenAPI(t)
	if len(doc.Security) == 0 {
		t.Error("by default operations ask for nothing")
	}
	for _, rt := range routes() {
		for _, method := range []string{rt.Method, "HEAD"} {
			op, ok := doc.operations[method+" "+documentPath(rt.Pattern)]
			if !ok {
				continue
			}
			open := op.Security != nil && len(*op.Security) == 0
			if op.Security != nil {
				for _, schemes := range *op.Security {
					open = open || len(schemes) == 0
					for scheme := range schemes {
						if _, ok := doc.Components["securitySchemes"][scheme]; !ok {
							t.Errorf("%s %s names the unknown security scheme %q", method, rt.Pattern, scheme)
						}
					}
				}
			}
			if open != isPublic(rt) {
				t.Errorf("%s %s: documented as open to anyone: %t, but is: %t", method, rt.Pattern, open, isPublic(rt))
			}
			if _, ok := op.Responses["401"]; !ok && !open {
				t.Errorf("%s %s asks for a key and has no 401", method, rt.Pattern)
			}
		}
	}
}

func TestOpenAPIPathsAndTheirParametersAgree(t *testing.T) {
	doc := parseOpenAPI(t)
	for _, path := range doc.paths {
		var inPath, declared []string
		for _, match := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
			inPath = append(inPath, match[1])
		}
		for _, ref := range doc.shared[path] {
			var p struct {
				Name, In string
				Required bool
			}
			mustUnmarshal(t, doc.Components["parameters"][strings.TrimPrefix(ref.Ref, "#/components/parameters/")], &p)
			if p.In != "path" {
				continue
			}
			if !p.Required {
				t.Errorf("%s: %s is in the path and not required", path, p.Name)
			}
			declared = append(declared, p.Name)
		}
		if !slices.Equal(inPath, declared) {
			t.Errorf("%s declares the path parameters %q", path, declared)
		}
	}
}

func TestOpenAPIListsEveryCodeOfARefusalAndNoOther(t *testing.T) {
	var schema struct {
		Properties struct {
			Code struct {
				Enum        []string
				Description string
			}
		}
	}
	mustUnmarshal(t, parseOpenAPI(t).Components["schemas"]["Error"], &schema)
	documented := schema.Properties.Code
	inSource := codesInSource(t)
	for code, file := range inSource {
		if !slices.Contains(documented.Enum, code) {
			t.Errorf("%q of %s is not documented", code, file)
		}
	}
	for _, code := range documented.Enum {
		if inSource[code] == "" {
			t.Errorf("%q is documented, and nothing answers it", code)
		}
		if !strings.Contains(documented.Description, "`"+code+"`") {
			t.Errorf("%q is not explained", code)
		}
	}
}

// Generators of clients differ in what they support of OpenAPI 3.1. The document uses
// only what all of them support.
func TestOpenAPIKeepsToWhatGeneratorsUnderstand(t *testing.T) {
	var whole map[string]any
	mustUnmarshal(t, openAPIDocument, &whole)
	var walk func(where string, v any)
	walk = func(where string, v any) {
		switch v := v.(type) {
		case []any:
			for i, item := range v {
				walk(fmt.Sprintf("%s/%d", where, i), item)
			}
		case map[string]any:
			isSchema := !strings.HasSuffix(where, "/properties") && !strings.Contains(where, "example")
			for _, keyword := range []string{"const", "enum"} {
				if v[keyword] != nil && v["type"] == nil && isSchema {
					t.Errorf("%s has %s without a type", where, keyword)
				}
			}
			if v["anyOf"] != nil && isSchema {
				t.Errorf("%s has anyOf: say which schema it is", where)
			}
			for name, value := range v {
				walk(where+"/"+name, value)
			}
		}
	}
	walk("#", whole)

	kinds := map[string]string{}
	for kind, components := range parseOpenAPI(t).Components {
		if kind == "headers" || kind == "securitySchemes" { // no generator makes types of these
			continue
		}
		for name := range components {
			if other := kinds[name]; other != "" {
				t.Errorf("components/%s and components/%s both have %s, which are two types of one name", kind, other, name)
			}
			kinds[name] = kind
		}
	}
}

// The document in OpenAPI 3.0 has what that version knows and nothing else, describes the
// same operations, and keeps the order in which people read them.
func TestOpenAPI30SaysTheSameInItsVersion(t *testing.T) {
	converted := openAPI30File().Body
	known := []string{"$ref", "title", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength",
		"pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required", "enum", "type", "allOf", "oneOf", "anyOf",
		"not", "items", "properties", "additionalProperties", "description", "format", "default", "nullable", "discriminator", "readOnly",
		"writeOnly", "xml", "externalDocs", "example", "deprecated"}
	var schema func(where string, v any)
	schema = func(where string, v any) {
		members, is := v.(map[string]any)
		if !is {
			return // additionalProperties: true
		}
		for name, value := range members {
			if !slices.Contains(known, name) {
				t.Errorf("%s has %q", where, name)
			}
			switch name {
			case "type":
				if _, is := value.(string); !is {
					t.Errorf("%s has the type %v", where, value)
				}
			case "$ref":
				if len(members) > 1 {
					t.Errorf("%s has a reference beside others", where)
				}
			case "exclusiveMaximum", "exclusiveMinimum":
				if _, is := value.(bool); !is {
					t.Errorf("%s has %s %v", where, name, value)
				}
			case "properties":
				for property, v := range value.(map[string]any) {
					schema(where+"/"+property, v)
				}
			case "items", "additionalProperties", "not":
				schema(where+"/"+name, value)
			case "allOf", "oneOf", "anyOf":
				for i, v := range value.([]any) {
					schema(fmt.Sprintf("%s/%s/%d", where, name, i), v)
				}
			}
		}
	}
	var walk func(where string, v any)
	walk = func(where string, v any) {
		switch v := v.(type) {
		case []any:
			for i, item := range v {
				walk(fmt.Sprintf("%s/%d", where, i), item)
			}
		case map[string]any:
			if v["$ref"] != nil && len(v) > 1 {
				t.Errorf("%s has a reference beside others", where)
			}
			for name, value := range v {
				switch {
				case name == "schema" || strings.HasSuffix(where, "/schemas"):
					schema(where+"/"+name, value)
				case name != "example" && name != "examples":
					walk(where+"/"+name, value)
				}
			}
		}
	}
	var whole map[string]any
	mustUnmarshal(t, converted, &whole)
	walk("#", whole)

	was, is := parseOpenAPI(t), parseOpenAPIOf(t, converted)
	if is.OpenAPI != "3.0.3" || whole["webhooks"] != nil || !slices.Equal(was.paths, is.paths) {
		t.Errorf("the document is of version %s, with the paths %v", is.OpenAPI, is.paths)
	}
	for name, op := range was.operations {
		if got := is.operations[name]; got.OperationID != op.OperationID || got.Description != op.Description || len(got.Responses) != len(op.Responses) {
			t.Errorf("%s has become %+v", name, got)
		}
	}
	for kind, components := range was.Components {
		if len(is.Components[kind]) != len(components) {
			t.Errorf("of %d %s there are %d", len(components), kind, len(is.Components[kind]))
		}
	}
	for _, want := range []string{
		`"Quota": {"type": "integer", "nullable": true`, `"kind": {"type": "string", "enum": ["table"]`, `"allOf": [{"$ref": "#/components/schemas/Error"}], "properties"`,
	} {
		if !strings.Contains(strings.NewReplacer("{ ", "{", "[ ", "[", " }", "}", " ]", "]").Replace(strings.Join(strings.Fields(string(converted)), " ")), want) {
			t.Errorf("nowhere it has %s", want)
		}
	}
}

// Some generators make no upload of a form behind a reference, one composed with allOf,
// or one with encoding.
func TestOpenAPIFormsStandWhereTheyAreSent(t *testing.T) {
	doc := parseOpenAPI(t)
	for name, body := range doc.Components["requestBodies"] {
		if bytes.Contains(body, []byte(`"multipart/`)) {
			t.Errorf("the form components/requestBodies/%s is behind a reference", name)
		}
	}
	forms := 0
	for name, op := range doc.operations {
		for mediaType, media := range op.RequestBody.Content {
			if media.Encoding != nil {
				t.Errorf("%s: the body has encoding", name)
			}
			schema := media.Schema
			for {
				var ref openAPIReference
				mustUnmarshal(t, schema, &ref)
				if ref.Ref == "" {
					break
				}
				schema = doc.Components["schemas"][strings.TrimPrefix(ref.Ref, "#/components/schemas/")]
			}
			if bytes.Contains(schema, []byte(`"allOf"`)) {
				t.Errorf("%s: the body has allOf", name)
			}
			if !strings.HasPrefix(mediaType, "multipart/") {
				continue
			}
			forms++
			var form struct {
				Required   []string
				Properties map[string]struct{ Format string }
			}
			mustUnmarshal(t, schema, &form)
			if !slices.Contains(form.Required, "file") || form.Properties["file"].Format != "binary" {
				t.Errorf("%s: the form has no file: %s", name, schema)
			}
		}
	}
	if forms != 3 {
		t.Errorf("the document has %d forms, want those of products, tickets and meetings", forms)
	}
}

// ASVS 5.1.1
func TestOpenAPINamesTheLimitsThatAServerHasByDefault(t *testing.T) {
	limit := api.FormatSize(int64(config.Default().Limits.MaxFileSize))
	if !bytes.Contains(openAPIDocument, []byte("**Size**: "+limit+" at most")) {
		t.Errorf("the document does not say that a file has %s at most", limit)
	}
	policy, err := content.NewPolicy(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	script := strings.NewReader("#!/bin/sh\n")
	_, err = policy.Decide(script, script.Size(), "x.sh")
	if err == nil {
		t.Fatal("a script is taken by default")
	}
	_, taken, _ := strings.Cut(err.Error(), "what is taken is ")
	if taken == "" || !bytes.Contains(openAPIDocument, []byte(taken)) {
		t.Errorf("the document does not say that what is taken is %q", taken)
	}
}

// openAPI is the part of the document that the tests check.
type openAPI struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Servers    []struct{ URL string }
	Security   []map[string][]string
	Tags       []struct{ Name string }
	Paths      json.RawMessage
	Components map[string]map[string]json.RawMessage

	paths      []string                      // in their order
	shared     map[string][]openAPIReference // parameters of all operations of a path
	operations map[string]openAPIOperation   // by "GET /path"
}

type openAPIOperation struct {
	OperationID string
	Summary     string
	Description string
	Tags        []string
	Security    *[]map[string][]string
	RequestBody struct {
		Content map[string]struct{ Schema, Encoding json.RawMessage }
	}
	Responses map[string]json.RawMessage
}

type openAPIReference struct {
	Ref string `json:"$ref"`
}

func parseOpenAPI(t *testing.T) openAPI {
	t.Helper()
	return parseOpenAPIOf(t, openAPIDocument)
}

func parseOpenAPIOf(t *testing.T, document []byte) openAPI {
	t.Helper()
	doc := openAPI{shared: map[string][]openAPIReference{}, operations: map[string]openAPIOperation{}}
	mustUnmarshal(t, document, &doc)
	for _, path := range membersOf(t, doc.Paths) {
		doc.paths = append(doc.paths, path.name)
		for _, m := range membersOf(t, path.value) {
			if m.name == "parameters" {
				var refs []openAPIReference
				mustUnmarshal(t, m.value, &refs)
				doc.shared[path.name] = refs
				continue
			}
			var op openAPIOperation
			mustUnmarshal(t, m.value, &op)
			doc.operations[strings.ToUpper(m.name)+" "+path.name] = op
		}
	}
	return doc
}

func mustUnmarshal(t *testing.T, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v in %.60s", err, raw)
	}
}

type jsonMember struct {
	name  string
	value json.RawMessage
}

// membersOf lists the members of a JSON object in their order.
func membersOf(t *testing.T, raw json.RawMessage) (list []jsonMember) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // the brace
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		m := jsonMember{name: name.(string)}
		if err := dec.Decode(&m.value); err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// documentPath converts a pattern of the router to the parameter names of the
// Attachments API: {slug}, {product_id}.
func documentPath(pattern string) string {
	segments := strings.Split(pattern, "/")
	for i, segment := range segments {
		switch name, varies := strings.CutPrefix(segment, ":"); {
		case name == "space" && varies:
			segments[i] = "{slug}"
		case varies:
			segments[i] = "{" + name + "_id}"
		}
	}
	return strings.Join(segments, "/")
}

// isPublic reports whether a route needs no key. Functions cannot be compared, but
// their addresses can.
func isPublic(rt api.Route) bool {
	who := reflect.ValueOf(rt.Who).Pointer()
	return who == reflect.ValueOf(access.Anyone).Pointer() || who == reflect.ValueOf((&access.Guard{}).SignedLink).Pointer()
}

// codesInSource returns the codes with which this package refuses, and a file with
// each.
func codesInSource(t *testing.T) map[string]string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.go", "api/*.go", "access/*.go", "files/*.go", "directory/*.go", "ops/*.go"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, matches...)
	}
	codes := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`\b[cC]ode:\s*"(\w+)"`).FindAllSubmatch(source, -1) {
			codes[string(match[1])] = file
		}
	}
	if len(codes) == 0 {
		t.Fatal("no code was found in the source")
	}
	return codes
}

// A route must be complete: what its method requires is in its own line.
func TestEveryRouteSaysAllThatTheCorridorHasToKnow(t *testing.T) {
	seen := map[string]bool{}
	for _, rt := range routes() {
		name := rt.Method + " " + rt.Pattern
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if rt.Who == nil || rt.Handle == nil {
			t.Errorf("%s does not say who may, or what it does", name)
		}
		if changes := rt.Method != "GET"; changes && rt.Audit == api.Unrecorded {
			t.Errorf("%s changes something and is not recorded", name)
		} else if !changes && rt.Audit != api.Unrecorded && rt.Audit.When == api.WithChange {
			t.Errorf("%s is recorded with a change that it does not make", name)
		}
		if rt.Audit != api.Unrecorded && (rt.Audit.Action == "" || rt.Audit.Resource == "") {
			t.Errorf("%s is recorded without an action or a resource", name)
		}
		takesFile := rt.Kind == api.FileUpload
		asksForFiles := rt.Kind == api.File && rt.Method == "POST"
		if takesFile && rt.Method != "POST" || rt.Kind != api.Document && !takesFile && !asksForFiles && rt.Method != "GET" {
			t.Errorf("%s is of a kind that goes with another method", name)
		}
		if recorded := rt.Audit != api.Unrecorded && rt.Audit.When == api.IfDownloads; recorded && isPublic(rt) != (rt.Kind == api.LinkedFile) {
			t.Errorf("%s gives a file to anyone", name)
		}
	}
}
