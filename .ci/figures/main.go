// Figures measures the size and the coupling of the code, so that a change of its
// structure can be judged by numbers: run it before and after.
//
//	go run ./.ci/figures
//
// Tests are left out, and so are the packages that only tests and measurements
// use.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// aids are the packages that are not part of the program.
var aids = []string{"storetest", "blobstest", "disktest", "upkeeptest", "durability", "load", "e2e", "build"}

// repeated is the minimum length, in lines, of a duplicated passage that is
// counted. Blank lines, comments and lines without a letter are left out.
const repeated = 6

type pkg struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	Standard                bool
}

type file struct {
	name  string
	lines []string
	tree  *ast.File
}

type house struct {
	fset  *token.FileSet
	pkgs  []pkg
	files map[string][]file // by import path
	types map[string]*types.Info
}

func main() {
	log.SetFlags(0)
	h, err := read()
	if err != nil {
		log.Fatal(err)
	}
	h.sizes()
	h.functions()
	h.widest()
	h.mutual()
	h.passages()
}

func read() (*house, error) {
	out, err := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles,Standard", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	h := &house{fset: token.NewFileSet(), files: map[string][]file{}, types: map[string]*types.Info{}}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if (p.ImportPath == "attachd" || strings.HasPrefix(p.ImportPath, "attachd/")) && !isAid(p.ImportPath) {
			h.pkgs = append(h.pkgs, p)
		}
	}
	load := importer.ForCompiler(h.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range h.pkgs {
		if err := h.check(p, load); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func isAid(path string) bool {
	for _, aid := range aids {
		if strings.HasSuffix(path, "/"+aid) {
			return true
		}
	}
	return false
}

func (h *house) check(p pkg, load types.Importer) error {
	var trees []*ast.File
	for _, name := range p.GoFiles {
		raw, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(h.fset, filepath.Join(p.Dir, name), raw, parser.ParseComments)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
		h.files[p.ImportPath] = append(h.files[p.ImportPath], file{name, strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n"), tree})
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: load}).Check(p.ImportPath, h.fset, trees, info); err != nil {
		return fmt.Errorf("%s: %w", p.ImportPath, err)
	}
	h.types[p.ImportPath] = info
	return nil
}

// sizes counts lines, including those of files for other operating systems, which
// all other counts leave out.
func (h *house) sizes() {
	type size struct {
		path  string
		lines int
	}
	var all []size
	total, code := 0, 0
	for _, p := range h.pkgs {
		s := size{path: p.ImportPath}
		names, _ := filepath.Glob(filepath.Join(p.Dir, "*.go")) // the pattern is valid
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(name)
			if err != nil {
				log.Fatal(err)
			}
			s.lines += bytes.Count(raw, []byte("\n"))
			code += codeLines(raw)
		}
		total += s.lines
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].lines > all[j].lines })
	fmt.Printf("lines                     %d, %d of them code\n", total, code)
	fmt.Printf("packages                  %d\n", len(h.pkgs))
	for _, s := range all[:8] {
		fmt.Printf("  %-32s %5d lines\n", s.path, s.lines)
	}
}

// codeLines counts the lines on which a token of the language begins.
func codeLines(raw []byte) int {
	n := 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}

func (h *house) functions() {
	total, over50, over80, longest, name := 0, 0, 0, 0, ""
	for path, files := range h.files {
		for _, f := range files {
			for _, d := range f.tree.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				lines := h.fset.Position(fn.End()).Line - h.fset.Position(fn.Pos()).Line + 1
				total++
				if lines > 50 {
					over50++
				}
				if lines > 80 {
					over80++
				}
				if lines > longest {
					longest, name = lines, path+"."+fn.Name.Name
				}
			}
		}
	}
	fmt.Printf("functions                 %d, %d over 50 lines, %d over 80, longest %d (%s)\n", total, over50, over80, longest, name)
}

func (h *house) widest() {
	var fields, methods, asked int
	var byFields, byMethods, byAsked string
	for path, info := range h.types {
		for _, o := range info.Defs {
			name, ok := o.(*types.TypeName)
			if !ok || name.IsAlias() {
				continue
			}
			full := path + "." + name.Name()
			switch t := name.Type().Underlying().(type) {
			case *types.Struct:
				if t.NumFields() > fields {
					fields, byFields = t.NumFields(), full
				}
			case *types.Interface:
				if t.NumMethods() > asked {
					asked, byAsked = t.NumMethods(), full
				}
			}
			if named, ok := name.Type().(*types.Named); ok && named.NumMethods() > methods {
				methods, byMethods = named.NumMethods(), full
			}
		}
	}
	fmt.Printf("most methods of a type    %d (%s)\n", methods, byMethods)
	fmt.Printf("most fields of a struct   %d (%s)\n", fields, byFields)
	fmt.Printf("widest interface          %d methods, embedded ones included (%s)\n", asked, byAsked)
}

// mutual counts the pairs of files of one package of which each uses a name that
// the other declares.
func (h *house) mutual() {
	pairs, most, where := 0, 0, ""
	for path, info := range h.types {
		uses := map[[2]string]bool{}
		for id, o := range info.Uses {
			if o.Pkg() == nil || o.Pkg().Path() != path || !o.Pos().IsValid() {
				continue
			}
			from, to := h.fset.Position(id.Pos()).Filename, h.fset.Position(o.Pos()).Filename
			if from != to {
				uses[[2]string{from, to}] = true
			}
		}
		n := 0
		for pair := range uses {
			if pair[0] < pair[1] && uses[[2]string{pair[1], pair[0]}] {
				n++
			}
		}
		pairs += n
		if n > most {
			most, where = n, path
		}
	}
	fmt.Printf("mutual file pairs         %d, most of them in %s (%d)\n", pairs, where, most)
}

// passages counts the passages that occur at least twice, each at its full length.
func (h *house) passages() {
	type place struct {
		file string
		at   int
	}
	texts := map[string][]string{}
	var names []string
	for _, files := range h.files {
		for _, f := range files {
			name := h.fset.Position(f.tree.Pos()).Filename
			names = append(names, name)
			past := false
			for _, line := range f.lines {
				line = strings.TrimSpace(line)
				past = past || strings.HasPrefix(line, "func") || strings.HasPrefix(line, "type") || strings.HasPrefix(line, "var") || strings.HasPrefix(line, "const")
				if past && !strings.HasPrefix(line, "//") && strings.ContainsFunc(line, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }) {
					texts[name] = append(texts[name], line)
				}
			}
		}
	}
	sort.Strings(names)
	seen := map[string][]place{}
	for _, name := range names {
		for i := 0; i+repeated <= len(texts[name]); i++ {
			key := strings.Join(texts[name][i:i+repeated], "\n")
			seen[key] = append(seen[key], place{name, i})
		}
	}
	count := 0
	for _, places := range seen {
		for _, p := range places[1:] {
			// The first window of a passage is one whose predecessor is not
			// duplicated.
			if p.at == 0 || places[0].at == 0 || texts[p.file][p.at-1] != texts[places[0].file][places[0].at-1] {
				count++
			}
		}
	}
	fmt.Printf("repeated passages         %d of %d lines or more\n", count, repeated)
}
