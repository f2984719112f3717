package watchdog

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// A holder of another version that obeys is not believed: what it means by an instant is not known. Nor does it find a
// limit in the request where the one of before has had it.
func TestClientRefusesOtherFormats(t *testing.T) {
	socket := filepath.Join(try.ShortDir(t), "h")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 3)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			got <- line
			fmt.Fprintln(conn, `{"armed":true,"limit_ns":9000000000000000000,"timeout_ns":4000000000}`)
			conn.Close()
		}
	}()
	c := Dial(socket)
	_, armed := c.Arm(t.Context(), hostClock.Now().Add(time.Second))
	_, asked := c.Status(t.Context())
	for what, err := range map[string]error{"arm": armed, "status": asked, "disarm": c.Disarm(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "format 0 of the reply: want 1") {
			t.Errorf("%s: %v", what, err)
		}
		if line := <-got; strings.Contains(line, "until_ns") {
			t.Errorf("%s: an older holder would obey %s", what, line)
		}
	}
}
