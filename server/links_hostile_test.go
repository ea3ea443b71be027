package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/token"
)

// The hostile tests' input is random but reproducible, and may be as long as wanted.
var (
	hostileLinks  = flag.Int("hostile-links", 20_000, "how `many` mutated links are tried")
	hostileBodies = flag.Int("hostile-bodies", 2_500, "how `many` hostile bodies are tried")
	seed          = flag.Uint64("seed", 1, "`seed` of what the hostile tests try")
)

// aLink is a signed link split into its parts.
type aLink struct {
	method, path       string
	expires, signature string
	query              string // instead of those two, if it is not empty
}

func (l aLink) target() string {
	if l.query != "" {
		return l.path + "?" + l.query
	}
	return l.path + "?expires=" + l.expires + "&signature=" + l.signature
}

// same reports whether l is equivalent to good: a query may name its parameters in any
// order and encode any character.
func (l aLink) same(good aLink) bool {
	u, err := url.ParseRequestURI(l.target())
	if err != nil {
		return false
	}
	query := u.Query()
	return (l.method == "GET" || l.method == "HEAD") && strings.EqualFold(u.Path, good.path) &&
		slices.Equal(query["expires"], []string{good.expires}) && slices.Equal(query["signature"], []string{good.signature})
}

// forger makes forged links out of signed ones.
type forger struct {
	*rand.Rand
	good []aLink
}

func (f *forger) pick(choices ...string) string { return choices[f.IntN(len(choices))] }

// raw changes the bytes of a signature: version, id of the signing key,
// disposition, key, user, MAC.
func (f *forger) raw(change func(raw []byte) []byte) func(*aLink) {
	return func(l *aLink) {
		if raw, err := base64.RawURLEncoding.DecodeString(l.signature); err == nil && len(raw) == signatureSize {
			l.signature = base64.RawURLEncoding.EncodeToString(change(raw))
		}
	}
}

// Offsets of the parts of a signature.
const keyAt, userAt, macAt, signatureSize = 6, 22, 38, 70

func (f *forger) mutations() map[string]func(*aLink) {
	other := func() aLink { return f.good[f.IntN(len(f.good))] }
	otherRaw := func() []byte {
		raw, _ := base64.RawURLEncoding.DecodeString(other().signature)
		return raw
	}
	return map[string]func(*aLink){
		"flipped bits": f.raw(func(raw []byte) []byte {
			for range 1 + f.IntN(3) {
				raw[f.IntN(len(raw))] ^= 1 << f.IntN(8)
			}
			return raw
		}),
		"bytes moved across a border": f.raw(func(raw []byte) []byte {
			border, n := []int{1, 5, keyAt, userAt, macAt}[f.IntN(5)], 1+f.IntN(4)
			from := max(0, border-n)
			moved := slices.Clone(raw[from:border])
			return slices.Concat(raw[:from], raw[border:min(len(raw), border+n)], moved, raw[min(len(raw), border+n):])
		}),
		"key and user exchanged": f.raw(func(raw []byte) []byte {
			return slices.Concat(raw[:keyAt], raw[userAt:macAt], raw[keyAt:userAt], raw[macAt:])
		}),
		"a field of another link": f.raw(func(raw []byte) []byte {
			borders := []int{0, 1, 5, keyAt, userAt, macAt, len(raw)}
			i := f.IntN(len(borders) - 1)
			copy(raw[borders[i]:borders[i+1]], otherRaw()[borders[i]:])
			return raw
		}),
		"shown inline":     f.raw(func(raw []byte) []byte { raw[5] ^= 1; return raw }),
		"a MAC of zeros":   f.raw(func(raw []byte) []byte { clear(raw[macAt:]); return raw }),
		"a MAC of nothing": f.raw(func(raw []byte) []byte { return hmac.New(sha256.New, nil).Sum(raw[:macAt]) }),
		"a MAC without a key": f.raw(func(raw []byte) []byte {
			sum := sha256.Sum256(raw[:macAt])
			return append(raw[:macAt], sum[:]...)
		}),
		"a MAC that is cut":   f.raw(func(raw []byte) []byte { return raw[:macAt+f.IntN(32)] }),
		"more behind the MAC": f.raw(func(raw []byte) []byte { return append(raw, make([]byte, 1+f.IntN(8))...) }),
		"a key of one's own": f.raw(func(raw []byte) []byte {
			l := token.Link{Expires: startOfTime.Add(time.Hour)}
			copy(l.Key[:], raw[keyAt:])
			copy(l.User[:], raw[userAt:])
			own, _ := base64.RawURLEncoding.DecodeString(token.NewSigner(token.NewSigningKey()).Sign(l))
			copy(own[1:5], raw[1:5])
			return own
		}),
		"another spelling of base64": func(l *aLink) {
			switch f.IntN(4) {
			case 0:
				l.signature = strings.NewReplacer("-", "%2B", "_", "%2F").Replace(l.signature)
			case 1:
				l.signature += "="
			case 2: // unused bits of the last character
				const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
				last := strings.IndexByte(digits, l.signature[len(l.signature)-1])
				l.signature = l.signature[:len(l.signature)-1] + string(digits[max(last, 0)^(1+f.IntN(3))])
			case 3:
				at := f.IntN(len(l.signature))
				l.signature = l.signature[:at] + f.pick("%0A", "%0D", "%20", "+", "%00", "%09") + l.signature[at:]
			}
		},
		"case": func(l *aLink) {
			at := f.IntN(len(l.signature))
			l.signature = l.signature[:at] + f.pick(strings.ToUpper(l.signature[at:]), strings.ToLower(l.signature[at:]))
		},
		"a shorter or longer signature": func(l *aLink) {
			at := f.IntN(len(l.signature) + 1)
			l.signature = f.pick(l.signature[at:], l.signature[:at], l.signature+l.signature[at:], l.signature+"A", "")
		},
		"another expiry": func(l *aLink) {
			n, _ := strconv.ParseInt(l.expires, 10, 64)
			l.expires = f.pick(fmt.Sprint(n+1), fmt.Sprint(n-1), fmt.Sprint(n^1<<f.IntN(63)), fmt.Sprint(-n), other().expires, "0", "-1", "9223372036854775807", "9223372036854775808")
		},
		"another spelling of the expiry": func(l *aLink) {
			l.expires = f.pick("0"+l.expires, "%2B"+l.expires, "+"+l.expires, l.expires+".0", l.expires+"e0", "0x"+l.expires, l.expires+"%20", l.expires+"%00", l.expires+",", l.expires+"_", "")
		},
		"another attachment": func(l *aLink) { l.path = f.pick(other().path, "/files/"+newID) },
		"a digit of the id": func(l *aLink) {
			at := min(len("/files/")+f.IntN(36), len(l.path)-1)
			l.path = l.path[:at] + f.pick("0", "1", "f", "-", "g") + l.path[at+1:]
		},
		"another path": func(l *aLink) {
			id := strings.TrimPrefix(l.path, "/files/")
			l.path = f.pick("/files//"+id, "//files/"+id, l.path+"/", l.path+"/x.css", l.path+"%00", "/FILES/"+id, "/files/%7B"+id+"%7D", "/files/urn:uuid:"+id,
				"/files/"+strings.ReplaceAll(id, "-", ""), "/catalog/attachments/"+id+"/download", "/catalog/attachments/"+id, "/issues/attachments/"+id)
		},
		"another method": func(l *aLink) {
			l.method = f.pick("POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "Get", "")
		},
		"repeated parameters": func(l *aLink) {
			expires, signature, bad := "expires="+l.expires, "signature="+l.signature, f.pick("signature=", "signature="+other().signature, "expires=", "expires="+other().expires, "signature="+l.signature, "expires="+l.expires)
			list := []string{expires, signature, bad}
			f.Shuffle(3, func(i, j int) { list[i], list[j] = list[j], list[i] })
			l.query = strings.Join(list, "&")
		},
		"other parameters": func(l *aLink) {
			l.query = f.pick("Expires="+l.expires+"&signature="+l.signature, "expires="+l.expires+"&SIGNATURE="+l.signature, "expires="+l.expires+";signature="+l.signature,
				"expires[]="+l.expires+"&signature[]="+l.signature, "expires="+l.expires, "signature="+l.signature, "key="+l.signature, "signature="+l.expires+"&expires="+l.signature,
				"expires="+l.expires+"%26signature="+l.signature, "%00expires="+l.expires+"&signature="+l.signature)
		},
	}
}

// A link with any change opens nothing. Another order of the parameters, and HEAD for
// GET, are no changes.
// ASVS 9.1.1, 9.1.2, 9.2.1, 9.2.2; CVE-2026-58426, CVE-2025-31489, CVE-2026-40344, CVE-2026-41145
func TestNoMutatedLinkOpensAnything(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.Log = slog.New(slog.DiscardHandler) })
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"})
	f := &forger{Rand: rand.New(rand.NewPCG(*seed, 0))}
	for _, id := range []string{"A", "B"} {
		for _, as := range []string{"viewer", "editor", "root for viewer"} {
			for _, wish := range []string{`{}`, `{"disposition": "inline"}`, `{"expires_in": 7200}`} {
				w.do(t, step{as: as, do: "POST /catalog/attachments/{" + id + "}/links", json: wish, want: 201, save: "link"})
				path, query, _ := strings.Cut(w.names["link"], "?")
				expires, signature, _ := strings.Cut(strings.TrimPrefix(query, "expires="), "&signature=")
				f.good = append(f.good, aLink{method: "GET", path: path, expires: expires, signature: signature})
			}
		}
	}
	for _, l := range f.good {
		reordered := aLink{method: "HEAD", path: l.path, query: "signature=" + l.signature + "&expires=" + l.expires}
		for _, same := range []aLink{l, reordered} {
			if status, _ := w.follow(same); status != 200 || !same.same(l) {
				t.Fatalf("a good link is answered %d: %s", status, same.target())
			}
		}
	}
	mutations := f.mutations()
	var names []string
	for name := range mutations {
		names = append(names, name)
	}
	slices.Sort(names)
	tried, answers := map[string]int{}, map[int]int{}
	for n := 0; n < *hostileLinks; {
		good := f.good[f.IntN(len(f.good))]
		l, did := good, ""
		for range 1 + f.IntN(2) {
			name := names[f.IntN(len(names))]
			did = name
			mutations[name](&l)
			if l.signature == "" || l.query != "" {
				break
			}
		}
		if slices.ContainsFunc(f.good, l.same) {
			continue
		}
		status, body := w.follow(l)
		if status < 400 || strings.Contains(body, alphabet) {
			t.Fatalf("%s, seed %d: %s %s is answered %d", did, *seed, l.method, l.target(), status)
		}
		n++
		tried[did]++
		answers[status]++
	}
	for _, name := range names {
		if tried[name] < *hostileLinks/200 {
			t.Errorf("only %d tries of %s", tried[name], name)
		}
	}
	t.Logf("%d mutated links of seed %d, none accepted; answered %v", *hostileLinks, *seed, answers)
}

// follow requests a link without a network, and returns status and body. What net/http
// would not pass to a handler is a 400.
func (w *world) follow(l aLink) (int, string) {
	u, err := url.ParseRequestURI(l.target())
	if err != nil {
		return http.StatusBadRequest, ""
	}
	recorded := httptest.NewRecorder()
	w.server.ServeHTTP(recorded, &http.Request{Method: l.method, URL: u, RequestURI: l.target(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Host: "attachd", RemoteAddr: "127.0.0.1:1"})
	return recorded.Code, recorded.Body.String()
}
