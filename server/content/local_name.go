package content

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SumsName is the name of the file beside others, in a folder or an archive, that has their
// SHA-256 for `sha256sum -c`.
const SumsName = "SHA256SUMS"

// LongestName is how many bytes of a name LocalNames keeps: most file systems take 255, and
// an id and the ending of a download under way may come behind it.
const LongestName = 200

// LocalNames gives files of one folder names that file systems take, and that differ there,
// also where case is ignored. The zero value is a folder without files.
type LocalNames struct {
	used map[string]int // in lower case: how often each was given or asked for
}

// Add returns the name of a file: with its id where the name is used already, or is none,
// or with a number if the id is empty.
func (n *LocalNames) Add(name, id string) string {
	if n.used == nil {
		n.used = map[string]int{}
	}
	name = LocalName(name, LongestName)
	ending, given := path.Ext(name), strings.ToLower(name)
	stem := strings.TrimSuffix(name, ending)
	for behind := id; name == "" || n.used[strings.ToLower(name)] > 0; {
		if n.used[given]++; id == "" {
			behind = fmt.Sprintf("(%d)", n.used[given])
		}
		if name = strings.TrimSpace(stem+" "+behind) + ending; id != "" {
			break // nothing else has it
		}
	}
	n.used[strings.ToLower(name)]++
	return name
}

// LocalName is a name as file systems take it, in at most so many bytes with its ending. It
// is none of a download under way.
func LocalName(name string, longest int) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || strings.ContainsRune(`/\<>:"|?*`, r) {
			return '_'
		}
		return r
	}, name)
	ending := path.Ext(name)
	if len(ending) > longest/2 {
		ending = ""
	}
	for name = strings.TrimSuffix(name, ending); len(name)+len(ending) > longest; {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	name = strings.TrimRight(name+ending, ". ")
	if strings.EqualFold(path.Ext(name), ".part") {
		name += "_"
	}
	if stem, _, _ := strings.Cut(name, "."); devices[strings.ToUpper(strings.TrimRight(stem, " "))] {
		name = "_" + name
	}
	return name
}

// devices are names that Windows gives to devices, with any ending.
var devices = func() map[string]bool {
	all := map[string]bool{"CON": true, "PRN": true, "AUX": true, "NUL": true, "CONIN$": true, "CONOUT$": true}
	for _, n := range "0123456789¹²³" {
		all["COM"+string(n)], all["LPT"+string(n)] = true, true
	}
	return all
}()
