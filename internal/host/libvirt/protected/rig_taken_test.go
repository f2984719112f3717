package protected

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"holdfast/testbed/virthost"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// taken is what others have on a simulated host.
type taken struct {
	heard  net.Listener
	asleep *os.Process
}

// doTaken takes something on the host, or gives it back.
func (h *simHost) doTaken(ctx context.Context, r virthost.Request) error {
	switch r.Op {
	case "listen": // NETWORK ADDRESS, until "hush"
		network, addr, _ := strings.Cut(r.Text, " ")
		l, err := net.Listen(network, addr)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.taken.heard = l
		return err
	case "hush":
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.taken.heard.Close()
	case "sleep": // a process with Text among its arguments; "wake-up" ends it
		p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "sleep 3600 & wait", r.Text},
			&os.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
		h.mu.Lock()
		defer h.mu.Unlock()
		h.taken.asleep = p
		return err
	case "wake-up":
		h.mu.Lock()
		defer h.mu.Unlock()
		return syscall.Kill(-h.taken.asleep.Pid, syscall.SIGKILL)
	case "filter": // of libvirt's networks
		return virthost.Libvirtd(ctx, "define a filter", func(l *golibvirt.Libvirt) error {
			_, err := l.NwfilterDefineXML(r.Text)
			return err
		})
	}
	return fmt.Errorf("unknown request %q", r.Op)
}
