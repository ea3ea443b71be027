package access

import (
	"sync"
	"time"

	"attachd/server/token"
)

// SignInTTL is how long a sign-in link works.
const SignInTTL = 10 * time.Minute

// signInLink is a link that signs in once whoever opens it. It is kept in memory only
// and ends with the process.
type signInLink struct {
	mu    sync.Mutex
	hash  [32]byte // of its secret
	key   string   // with which it signs in; empty when there is no link, or it was used
	until time.Time
}

// NewSignInLink returns the secret of a link that signs in with a key: once, within
// SignInTTL. The link before it ends.
func (g *Guard) NewSignInLink(key string) (secret string) {
	secret = token.NewSignIn()
	g.link.mu.Lock()
	defer g.link.mu.Unlock()
	g.link.hash, g.link.key, g.link.until = token.Hash(secret), key, g.Now().Add(SignInTTL)
	return secret
}

// takeSignInLink returns the key with which the link with this secret signs in, and
// ends the link. restore undoes that, unless there is a later link: no session was made.
func (g *Guard) takeSignInLink(secret string) (key string, restore func(), ok bool) {
	g.link.mu.Lock()
	defer g.link.mu.Unlock()
	hash := token.Hash(secret)
	if g.link.key == "" || g.link.hash != hash || !g.Now().Before(g.link.until) {
		return "", nil, false
	}
	key, g.link.key = g.link.key, ""
	return key, func() {
		g.link.mu.Lock()
		defer g.link.mu.Unlock()
		if g.link.hash == hash {
			g.link.key = key
		}
	}, true
}
