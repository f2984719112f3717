package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// told reports that a server said one of some errors.
func told(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}

// Absent reports a database (1049) or a table (1146) that is not there.
func Absent(err error) bool { return told(err, 1049, 1146) }

// Denied reports that the account lacks a right: to a database (1044), a table (1142), a
// column (1143).
func Denied(err error) bool { return told(err, 1044, 1142, 1143) }

// Unlockable says why a server refuses GET_LOCK, where it says no more than that it does
// not support it (1235); other errors stay as they are.
func Unlockable(err error) error {
	if told(err, 1235) {
		return fmt.Errorf("%w: nodes of Galera take no GET_LOCK in some versions and modes: want a server outside of "+
			"a cluster, or a version that does", err)
	}
	return err
}

// Passes reports the number of an error of the servers that passes: too many connections
// (1040, 1203), shutdown (1053), aborted connections and their networks (1152, 1158 to
// 1161, 1184), lock wait timeout (1205), deadlock (1213), query (1317) or connection
// (1927) killed, a server that has gone (2006, 2013).
func Passes(number uint16) bool {
	switch number {
	case 1040, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1205, 1213, 1317, 1927, 2006, 2013:
		return true
	}
	return false
}

// Passing reports errors of connections, and of servers that go away or come back, after
// which the same may be tried again.
func Passing(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return Passes(e.Number)
	}
	var wire net.Error // refused, reset, unreachable, too slow
	if errors.As(err, &wire) {
		_, bare := wire.(syscall.Errno) // of a file, such as that it is not there: it has the same methods
		return !bare
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
