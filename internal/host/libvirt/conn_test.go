package libvirt

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestAConnectionThatEndsWhileItBegins: the connection ends with one of the answers or
// without it, from either side. greet returns, and the library's own race between the end of
// a connect and the end of a connection does not come to pass; the race detector looks.
func TestAConnectionThatEndsWhileItBegins(t *testing.T) {
	const answers = 2 // a list of ways to authenticate, that the driver is open
	for n := range 200 {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() {
				if n%2 == 0 {
					_ = theirs.Close()
				} else {
					cancel()
				}
			}()
			for range n / 2 % (answers + 1) {
				if !answer(theirs) {
					return
				}
			}
		}()
		if c, err := greet(ctx, ours); err == nil {
			c.close()
		}
		<-ended
		cancel()
		_ = theirs.Close()
	}
}

// TestAConnectThatIsRefused: an answer that is an error ends the connect at once, with it.
func TestAConnectThatIsRefused(t *testing.T) { synctest.Test(t, aConnectThatIsRefused) }

func aConnectThatIsRefused(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	go func() {
		if answer(theirs) {
			refuse(theirs)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	if _, err := greet(ctx, ours); err == nil || !Answered(err) {
		t.Fatalf("%v", err)
	}
	// The library waits 5 s for a reader that does not end. Time is virtual here: nothing else takes any.
	if took := time.Since(began); took != 0 {
		t.Errorf("it took %s", took)
	}
}

// asked reads one packet, and returns its header.
func asked(c net.Conn) ([]byte, bool) {
	head := make([]byte, 28) // length, program, version, procedure, type, serial, status
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, false
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head))-int64(len(head)))
	return head, err == nil
}

// answer says yes to one request, in two pieces. A list in it is empty.
func answer(c net.Conn) bool {
	head, ok := asked(c)
	if !ok {
		return false
	}
	b := append(head, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint32(b[16:], 1) // a reply
	for _, part := range [][]byte{b[:3], b[3:]} {
		if _, err := c.Write(part); err != nil {
			return false
		}
	}
	return true
}

// refuse answers one request with an error.
func refuse(c net.Conn) {
	head, ok := asked(c)
	if !ok {
		return
	}
	b := append(head, make([]byte, 128)...) // code, domain, ... all zero
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint32(b[16:], 1)
	binary.BigEndian.PutUint32(b[24:], 1) // status: an error
	binary.BigEndian.PutUint32(b[28:], 38)
	_, _ = c.Write(b)
}
