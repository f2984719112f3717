package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// SetPassword gives a user of the guest another password, by the agent in the guest.
// nil means that the agent has said so. The password is in no error.
func (d *Driver) SetPassword(ctx context.Context, user, password string) error {
	what := fmt.Sprintf("set the password of %s in %s", user, d.opt.Name)
	c, err := d.link.open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer d.link.drop(c)
	return noAgent(c.call(ctx, what, func(l *golibvirt.Libvirt) error {
		return l.DomainSetUserPassword(d.dom, golibvirt.OptString{user}, golibvirt.OptString{password}, 0)
	}))
}
