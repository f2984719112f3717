package server

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestFaults(t *testing.T) {
	deadlock, absent := &mysql.MySQLError{Number: 1213}, &mysql.MySQLError{Number: 1146}
	for _, c := range []struct {
		err             error
		passing, absent bool
	}{
		{fmt.Errorf("chunk: %w", deadlock), true, false},
		{&mysql.MySQLError{Number: 1053}, true, false},
		{absent, false, true},
		{&mysql.MySQLError{Number: 1049}, false, true},
		{&mysql.MySQLError{Number: 1062}, false, false},
		{errors.Join(absent, driver.ErrBadConn), false, true}, // what the server said counts
		{driver.ErrBadConn, true, false},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true, false},
		{errors.New("something"), false, false},
		{&os.PathError{Op: "open", Path: "my.cnf", Err: syscall.ENOENT}, false, false},
		{&net.DNSError{Err: "no such host", Name: "h"}, true, false},
		{context.Canceled, false, false},
		{mysql.ErrInvalidConn, true, false},
		{io.ErrUnexpectedEOF, true, false},
		{os.ErrDeadlineExceeded, true, false},
		{&mysql.MySQLError{Number: 1205}, true, false},
		{&mysql.MySQLError{Number: 1927}, true, false},
		{&mysql.MySQLError{Number: 1045}, false, false},
		{&mysql.MySQLError{Number: 1406}, false, false},
		{mysql.ErrPktTooLarge, false, false},
	} {
		if Passing(c.err) != c.passing || Absent(c.err) != c.absent {
			t.Errorf("%v: passing %v, absent %v", c.err, Passing(c.err), Absent(c.err))
		}
	}
}
