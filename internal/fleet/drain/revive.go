package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/host/libvirt/guests"
)

// reviveWithin bounds the start of the guests that were shut down in vain.
const reviveWithin = 2 * time.Minute

// Revive starts guests again that were shut down to go and are still here.
func (d *Drain) Revive(ctx context.Context, log io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, reviveWithin)
	defer cancel()
	words, err := sentOff(ctx, d.Store, d.Host)
	vms, lerr := d.Guests.List(ctx)
	if err = errors.Join(err, lerr); err != nil {
		fmt.Fprintf(log, "guests that were shut down are not started again: %v\n", err)
		return
	}
	for _, vm := range vms {
		to := words[vm.UUID]
		if vm.State != guests.VMOff || len(to) == 0 {
			continue
		}
		for _, h := range to { // first of all: nobody else may start it then
			err = errors.Join(err, carry{UUID: vm.UUID, Name: vm.Name, Start: true}.takeBack(ctx, d.Store, h))
		}
		if err == nil {
			err = d.Guests.Start(ctx, vm.UUID, guests.StartOptions{})
		}
		fmt.Fprintf(log, "%s: stays, and is started again: %v\n", vm.Name, err)
	}
}
