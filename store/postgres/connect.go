package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"attachd/store"
)

const (
	// connectFor is how long an attempt to connect to a host may take, unless the DSN says
	// how long. It is less than a client waits for an answer.
	connectFor = 5 * time.Second
	// silentFor is how long a connection may confirm nothing before it counts as broken: a
	// machine that lost its power or its network ends none of them.
	silentFor = 10 * time.Second
)

// CheckDSN returns what is wrong with a DSN by itself. The text has the DSN in it, so the
// caller leaves its passwords out.
func CheckDSN(dsn string) error {
	_, err := pgxpool.ParseConfig(dsn)
	return err
}

// prepareConnections has connections fail soon instead of late, and takes none to a server
// that is read-only: of several hosts, that is a standby, and of one, it cannot be used.
func prepareConnections(config *pgconn.Config) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectFor
	}
	config.DialFunc = (&net.Dialer{
		Timeout:         config.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silentFor / 2, Interval: silentFor / 4, Count: 2},
		Control: func(network, _ string, conn syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			return endSilence(conn, silentFor)
		},
	}).DialContext
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// errEmpty is the error of a database in which attachd has made nothing yet, where it should
// have.
var errEmpty = &store.Error{Kind: store.ErrNotFound, Detail: "the database has no installation of attachd"}

// unusable is the error of a database that cannot be used until somebody has changed
// something.
type unusable string

func (u unusable) Error() string { return string(u) }

// isAway says whether an error with a code of PostgreSQL's means that the database does not
// take changes now: it starts, stops, is a standby, has no connection left, does not know this
// user any more, or other changes were in the way each time that this one was tried.
func isAway(code string) bool {
	for _, class := range []string{"08", "28", "3D", "40", "53", "57"} {
		if strings.HasPrefix(code, class) {
			return code != diskFull
		}
	}
	return code == readOnlyTransaction || code == lockNotAvailable
}

// advise says what to do about a database that could not be opened. An ErrAway is one that
// may be there soon.
func advise(err error, config *pgconn.Config) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		switch code := refusal.Code; {
		case strings.HasPrefix(code, "28"):
			return unusable(fmt.Sprintf("PostgreSQL does not let in %q: %s. Correct the user and the password of metadata.dsn, or what pg_hba.conf allows", config.User, refusal.Message))
		case strings.HasPrefix(code, "3D"):
			return unusable(fmt.Sprintf("PostgreSQL has no database %q. Make it: createdb --owner=%s %[1]s; or correct metadata.dsn", config.Database, config.User))
		case code == insufficientPrivilege:
			return unusable(fmt.Sprintf("%q may not make or use the schema attachd: %s. Let it own the database: alter database %q owner to %[1]q", config.User, refusal.Message, config.Database))
		}
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return unusable(fmt.Sprintf("the certificate of PostgreSQL is not trusted: %v. Name the one that signed it in metadata.dsn, with sslrootcert=FILE", untrusted.Err))
	}
	return explain(err)
}

// checkServer returns an error where the server cannot keep what attachd stores.
func checkServer(version int, encoding string) error {
	switch {
	case version < oldestServer:
		return unusable(fmt.Sprintf("attachd needs PostgreSQL %d or later, and this is %d", oldestServer/10000, version/10000))
	case encoding != "UTF8":
		return unusable(fmt.Sprintf("the database has the encoding %s, in which not every file name can be written. Make one with UTF8: createdb --encoding=UTF8 --template=template0 NAME", encoding))
	}
	return nil
}
