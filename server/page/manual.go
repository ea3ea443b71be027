package page

import (
	"bytes"
	_ "embed" // of manual.html
	"fmt"
	"html"
	"path"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"attachd/docs"
)

// ManualPolicy is the Content-Security-Policy of the manual: a style sheet and an icon
// from this server, and nothing that runs.
const ManualPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed manual.html
var manualFrame string

// Manual returns a page of the manual; without a name, the list of its pages.
func Manual(name string) (File, bool) {
	f, ok := manual()[name]
	return f, ok
}

var manual = sync.OnceValue(buildManual)

func buildManual() map[string]File {
	// Raw HTML in Markdown is left out by default. Styles of elements would be refused by
	// the policy.
	table := extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))
	markdown := goldmark.New(goldmark.WithExtensions(table), goldmark.WithParserOptions(
		parser.WithAutoHeadingID(), parser.WithASTTransformers(util.Prioritized(links{}, 100))))
	pages := map[string]File{}
	add := func(name, title, text, root string) {
		var body bytes.Buffer
		if err := markdown.Convert([]byte(text), &body); err != nil {
			panic(err) // writes to memory do not fail
		}
		frame := strings.NewReplacer("{title}", html.EscapeString(title), "{root}", root, "{version}", Version(), "{body}", body.String())
		pages[name] = NewFile(htmlType, []byte(frame.Replace(manualFrame)))
	}
	var list strings.Builder
	list.WriteString("# The manual\n\nThe same pages are in the program: `attachd docs` lists them.\n")
	for _, group := range docs.Manual() {
		fmt.Fprintf(&list, "\n## %s\n\n", group.Readers)
		for _, page := range group.Pages {
			fmt.Fprintf(&list, "- [%s](%s%s)\n", page.Title, fromList, page.Name)
			add(page.Name, page.Title, page.Text, "../")
		}
	}
	add("", "The manual", list.String(), "")
	return pages
}

// fromList is the path from the list of pages to a page.
const fromList = "manual/"

// links is an AST transformer that makes links between the files of the manual links
// between its pages on a server. What a server does not have becomes text.
type links struct{}

func (links) Transform(document *ast.Document, source text.Reader, _ parser.Context) {
	var gone []*ast.Link
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if link, ok := n.(*ast.Link); ok && entering {
			to, ok := address(string(link.Destination))
			if link.Destination = []byte(to); !ok {
				gone = append(gone, link)
			}
		}
		return ast.WalkContinue, nil
	})
	for _, link := range gone {
		parent := link.Parent()
		for child := link.FirstChild(); child != nil; child = link.FirstChild() {
			parent.InsertBefore(parent, link, child)
		}
		parent.RemoveChild(parent, link)
	}
}

// address is where a link of a page leads on a server; ok is false for what is in the
// source only.
func address(destination string) (to string, ok bool) {
	file, anchor, _ := strings.Cut(destination, "#")
	if _, isPage := docs.Find(strings.TrimSuffix(file, ".md")); isPage && path.Ext(file) == ".md" {
		to = strings.TrimSuffix(file, ".md")
		if anchor != "" {
			to += "#" + anchor
		}
		return to, true
	}
	switch {
	case file == "" || strings.Contains(file, "://") || strings.HasPrefix(file, fromList):
		return destination, true
	case file == "../server/openapi.json":
		return "../openapi.json", true
	}
	return "", false
}
