package server

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

type demoUserBody struct {
	Name     string `json:"name"`
	FullName string `json:"full_name"`
}

// demoUsers lists whom a demo lets in without a key.
func (s *Server) demoUsers(w *response, rq *request, sc scope) error {
	if !s.offersDemo(rq.Request) {
		return notFound("There is nothing at this address.")
	}
	keys, err := s.DemoKeys()
	if err != nil {
		return err
	}
	users := []demoUserBody{}
	for name, secret := range keys {
		_, user, err := s.keyOf(rq, secret)
		if errors.Is(err, errNoKey) {
			continue // revoked meanwhile
		}
		if err != nil {
			return err
		}
		users = append(users, demoUserBody{name, user.FullName})
	}
	slices.SortFunc(users, func(a, b demoUserBody) int { return strings.Compare(a.Name, b.Name) })
	return rq.answer(w, http.StatusOK, users)
}

// demoKey gives the key of a demo's user.
func (s *Server) demoKey(rq *request, name string) (string, error) {
	if !s.offersDemo(rq.Request) {
		return "", invalidRequest("This server is no demo. Sign in with a key.")
	}
	keys, err := s.DemoKeys()
	if err != nil {
		return "", err
	}
	key, ok := keys[name]
	if !ok {
		return "", unauthorized("The demo has no such user.")
	}
	return key, nil
}

// offersDemo says whether the caller may sign in as a user of the demo: only
// somebody at this machine, who names it as such (a page elsewhere that has
// its own name point here does not), and through no proxy.
func (s *Server) offersDemo(r *http.Request) bool {
	return s.DemoKeys != nil && isLoopback(r.RemoteAddr) && isLoopback(r.Host) &&
		r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}
