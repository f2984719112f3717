package libvirt

import (
	"errors"
	"fmt"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// ErrLost: the connection ended before the answer came, so it is not known
// whether the call was carried out.
var ErrLost = errors.New("connection to libvirtd lost")

// Answered reports whether err is libvirtd's own, definite answer.
func Answered(err error) bool {
	var e golibvirt.Error
	return errors.As(err, &e) || errors.Is(err, golibvirt.ErrUnsupported)
}

// HasCode reports whether err is libvirtd's answer with that code.
func HasCode(err error, code golibvirt.ErrorNumber) bool {
	var e golibvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// BeingRemoved tells the refusal of a libvirtd that has ended an earlier domain
// of that name, no longer shows it, but has not quite forgotten it.
func BeingRemoved(err error) bool {
	return HasCode(err, golibvirt.ErrOperationFailed) && strings.Contains(err.Error(), "already being removed")
}

// lineError is an error whose text is brought onto one line; QEMU's has several.
type lineError struct{ error }

func (e lineError) Error() string {
	var lines []string
	for l := range strings.Lines(e.error.Error()) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "; ")
}

func (e lineError) Unwrap() error { return e.error }

// OneLine is an error with its text on one line.
func OneLine(err error) error { return lineError{err} }

// Doing names the guest and what was tried in an error; nil stays nil.
func Doing(what, guest string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, guest, OneLine(err))
}
