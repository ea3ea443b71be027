package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// written are the documents that people read, relative to the repository.
func written(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	documents := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "packaging/README.md", "server/durability/README.md"}
	for _, page := range pages {
		documents = append(documents, "docs/"+page)
	}
	return documents
}

func read(t *testing.T, document string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", document))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestTheManualHasEachPageOnce(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, group := range Manual() {
		for _, page := range group.Pages {
			listed = append(listed, page.Name+".md")
			if page.Title == "" || !strings.HasPrefix(page.Text, "# "+page.Title+"\n\nFor ") {
				t.Errorf("%s does not begin with its title and for whom it is", page.Name)
			}
		}
	}
	slices.Sort(listed)
	if there, _ := filepath.Glob("*.md"); !slices.Equal(listed, there) {
		t.Errorf("listed are %v, there are %v", listed, there)
	}
	for _, name := range []string{"", "docs", "start.md", "../README", "nothing"} {
		if _, ok := Find(name); ok {
			t.Errorf("there is a page %q", name)
		}
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	code    = regexp.MustCompile("`[^`]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	odd     = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// anchors are the targets of links within a document, as renderers of Markdown make
// them from its headings.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(odd.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	links := 0
	for _, document := range written(t) {
		text := read(t, document)
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(fenced.ReplaceAllString(text, ""), ""), -1) {
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := document
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(document), path))
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s links to %s: %v", document, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, where there is no such heading", document, m[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// mostWords is how many words a sentence has at most; longer ones are chosen.
const mostWords = 35

// chosen are the beginnings of sentences that are longer on purpose.
var chosen = []string{}

// prose is a document without what is not read as sentences.
var prose = []struct {
	what *regexp.Regexp
	with string
}{
	{fenced, ".\n\n"},
	{regexp.MustCompile(`(?m)^\|.*$`), ".\n\n"},
	{regexp.MustCompile(`(?m)^#+ .*$`), ".\n\n"},
	{regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`), "$1"},
	{code, "code"},
	{regexp.MustCompile(`(?m)^(\s*)(-|\d+\.) `), ".\n\n"},
	{regexp.MustCompile(`\s+`), " "},
}

var sentenceEnd = regexp.MustCompile(`[.!?](?:[)"*]*) `)

func sentences(text string) (all []string) {
	for _, p := range prose {
		text = p.what.ReplaceAllString(text, p.with)
	}
	for _, sentence := range sentenceEnd.Split(text+" ", -1) {
		if words := strings.Fields(sentence); len(words) > 0 {
			all = append(all, strings.Join(words, " "))
		}
	}
	return all
}

func TestSentencesAreShort(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, document := range written(t) {
		if document == "server/durability/README.md" {
			continue // a table for whoever verifies the promises
		}
		for _, sentence := range sentences(read(t, document)) {
			if n := len(strings.Fields(sentence)); n > mostWords {
				at := slices.IndexFunc(chosen, func(begin string) bool { return strings.HasPrefix(sentence, begin) })
				if at < 0 {
					t.Errorf("%s: a sentence of %d words: %s", document, n, sentence)
					continue
				}
				used[chosen[at]] = true
			}
		}
	}
	for _, begin := range chosen {
		if !used[begin] {
			t.Errorf("no long sentence begins with %q any more", begin)
		}
	}
}

func TestTheReadmeIsShort(t *testing.T) {
	t.Parallel()
	if n := len(strings.Fields(read(t, "README.md"))); n < 700 || n > 900 {
		t.Errorf("the README has %d words", n)
	}
}
