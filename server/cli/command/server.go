package command

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/config"
	"attachd/server/remote"
)

// Server is a server that a command calls over the network, as its flags and the
// environment name it.
type Server struct {
	url      string
	keyFile  string
	retryFor time.Duration
}

// AddFlags adds the flags that name the server.
func (s *Server) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.url, "server", os.Getenv(config.EnvServer), "`URL` of the server")
	cmd.Flags().StringVar(&s.keyFile, "key-file", "", "`file` with the API key")
	cmd.Flags().DurationVar(&s.retryFor, "retry-for", time.Minute, "how long to try again what a bad connection or a busy server failed; 0: not at all")
}

// IsNamed reports whether a flag or the environment names a server.
func (s *Server) IsNamed() bool { return s.url != "" }

// Client returns a client of the server; retrying is called before each retry.
func (s *Server) Client(retrying func(why error, in time.Duration)) (*remote.Client, error) {
	if !s.IsNamed() {
		return nil, Usage("say which server: --server URL, or %s in the environment", config.EnvServer)
	}
	if s.retryFor < 0 {
		return nil, Usage("--retry-for must not be negative")
	}
	key := os.Getenv(config.EnvKey)
	if s.keyFile != "" {
		raw, err := os.ReadFile(s.keyFile)
		if err != nil {
			return nil, err
		}
		key = string(raw)
	}
	if key = strings.TrimSpace(key); key == "" {
		return nil, Usage("an API key is needed: --key-file FILE, or %s in the environment", config.EnvKey)
	}
	c, err := remote.New(remote.Options{Server: s.url, Key: key, RetryFor: s.retryFor, Retrying: retrying})
	if err != nil {
		return nil, Usage("%v", err)
	}
	return c, nil
}
