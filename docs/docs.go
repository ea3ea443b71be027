// Package docs has the manual: the pages of this folder, embedded unchanged, so that
// the program has them where there is no network.
package docs

import (
	"embed"
	"strings"
)

//go:embed *.md
var files embed.FS

// Page is a page of the manual.
type Page struct {
	Name  string // of its file, without .md
	Title string
	Text  string // in Markdown
}

// Group is the pages for one kind of reader.
type Group struct {
	Readers string
	Pages   []Page
}

// order lists the pages by reader, in the order in which they are read.
var order = []struct {
	readers string
	names   []string
}{
	{"A first look", []string{"start", "glossary"}},
	{"Integrators", []string{"api", "recipes", "webhooks"}},
	{"Operators", []string{"operating", "configuration", "maintenance", "backup", "sizing", "troubleshooting", "object-store", "migrate", "beyond-one-machine"}},
	{"Auditors", []string{"promises", "security", "audit"}},
	{"Moving from", []string{"moving-from-a-folder", "moving-from-s3", "moving-from-filebrowser", "moving-from-gitea"}},
	{"Contributors", []string{"architecture"}},
}

// Manual returns all pages.
func Manual() (groups []Group) {
	for _, g := range order {
		group := Group{Readers: g.readers}
		for _, name := range g.names {
			page, ok := Find(name)
			if !ok {
				panic("docs: there is no page " + name) // it is embedded
			}
			group.Pages = append(group.Pages, page)
		}
		groups = append(groups, group)
	}
	return groups
}

// Find returns the page with a name.
func Find(name string) (Page, bool) {
	raw, err := files.ReadFile(name + ".md")
	if err != nil {
		return Page{}, false
	}
	text := string(raw)
	title, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
	return Page{Name: name, Title: title, Text: text}, true
}
