package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"attachd/server/api"
)

// With a ContentURL, files are served from a separate host that serves nothing else:
// whatever a browser takes a file for, the file shares an origin neither with the API
// nor with the page that has a session.

// CheckContentURL refuses a content URL whose host is that of the public URL: requests
// are routed by host, so the API would no longer be reachable. Without a public URL,
// the API is at the address that the server listens on, as host:port; where that is
// every address of the machine, or is not known (empty), nothing can be compared.
func CheckContentURL(public, listen, content string) error {
	if content == "" {
		return nil
	}
	files, err := url.Parse(content)
	if err != nil {
		return fmt.Errorf("content URL: %w", err)
	}
	address, where := listen, "the address that listen names, where the API is without a public_url"
	if public != "" {
		u, err := url.Parse(public)
		if err != nil {
			return fmt.Errorf("public URL: %w", err)
		}
		address, where = u.Host, "public_url"
	}
	if api.Hostname(files.Host) == api.Hostname(address) {
		return fmt.Errorf("must have another host name than %s; browsers do not tell ports apart everywhere", where)
	}
	return nil
}

// byHost routes requests by host: the host for files serves nothing but signed links.
func (s *Server) byHost(all http.Handler, table []api.Route) http.Handler {
	if s.ContentURL == "" {
		return all
	}
	content := s.corridor.Router(slices.DeleteFunc(slices.Clone(table), func(rt api.Route) bool { return rt.Kind != api.LinkedFile }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.corridor.ForContentHost(r) {
			content.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}
