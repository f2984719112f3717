package array

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/clock"
)

// object is a file system or a snapshot, as far as it matters.
type object struct {
	ID     scalar `json:"ID"`
	Name   string `json:"NAME"`
	Parent scalar `json:"PARENTID"`
	Health scalar `json:"HEALTHSTATUS"`
}

// fileSystem gives the id of a file system.
func (c *client) fileSystem(ctx context.Context, name string) (string, error) {
	var list []object
	if err := c.ask(ctx, http.MethodGet, "filesystem?"+filter("NAME", name), nil, &list); err != nil {
		return "", fmt.Errorf("look for file system %s: %w", name, err)
	}
	id := ""
	for _, o := range list { // arrays may give names that are only alike
		if o.Name != name {
			continue
		}
		if id != "" {
			return "", fmt.Errorf("the storage array has two file systems %s", name)
		}
		id = string(o.ID)
	}
	if id == "" {
		return "", fmt.Errorf("the storage array has no file system %s", name)
	}
	return id, nil
}

// find gives the snapshot of a file system by name, nil when there is none.
func (c *client) find(ctx context.Context, parent, name string) (*object, error) {
	var list []object
	err := c.ask(ctx, http.MethodGet, "FSSNAPSHOT?PARENTID="+url.QueryEscape(parent)+"&"+filter("NAME", name), nil, &list)
	var said *Error
	if errors.As(err, &said) && said.Code == codeNoSnapshot {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for snapshot %s: %w", name, err)
	}
	for i, o := range list {
		if o.Name == name && (string(o.Parent) == parent || o.Parent == "") {
			return &list[i], nil
		}
	}
	return nil, nil
}

// create makes a snapshot. The name is not taken when this begins, so one that is
// there after a reply was lost, or that stands in the way, is ours.
func (c *client) create(ctx context.Context, parent, name string) (object, error) {
	var made object
	begun := false
	err := c.patiently(ctx, func() error {
		if begun {
			s, err := c.find(ctx, parent, name)
			if err != nil {
				return err
			}
			if s != nil {
				made = *s
				return nil
			}
		}
		begun = true
		made = object{}
		return c.call(ctx, http.MethodPost, "FSSNAPSHOT", map[string]any{"NAME": name, "PARENTID": parent, "PARENTTYPE": typeFileSystem}, &made)
	})
	var said *Error
	var lost *lostError
	if errors.As(err, &said) && said.Code == codeExists || errors.As(err, &lost) {
		// The name is taken by now, or no reply came three times: it may be there.
		s, again := c.find(ctx, parent, name)
		if again != nil {
			return made, errors.Join(err, again)
		}
		if s != nil {
			return *s, nil
		}
	}
	if err == nil && made.ID == "" {
		err = errors.New("the storage array does not say the id of the snapshot")
	}
	return made, err
}

// remove removes a snapshot that is there.
func (c *client) remove(ctx context.Context, parent, name string) error {
	s, err := c.find(ctx, parent, name)
	if err != nil || s == nil {
		return err
	}
	err = c.ask(ctx, http.MethodDelete, "FSSNAPSHOT/"+url.PathEscape(string(s.ID)), nil, nil)
	var said *Error
	if errors.As(err, &said) && said.Code == codeNoSnapshot {
		return nil // a repetition, or somebody else has
	}
	return err
}

// rollback is how far a roll back has come.
type rollback struct {
	Status scalar `json:"rollbackStatus"`
	Rate   scalar `json:"rollbackRate"`
}

// rollBack rolls a file system back, and waits until that is done. To begin it
// again does no harm, but while it runs the array refuses that.
func (c *client) rollBack(ctx context.Context, s backup.Snapshot) error {
	begun := false
	err := c.patiently(ctx, func() error {
		err := c.call(ctx, http.MethodPut, "FSSNAPSHOT/rollback_fssnapshot", map[string]any{"ID": s.ID}, nil)
		var said *Error
		if !errors.As(err, &said) || !begun {
			begun = true
			return err
		}
		// An earlier one, whose reply was lost, is in the way, or was a moment ago.
		now, err := c.progress(ctx, s.Of)
		if err != nil || now.Status == rollbackIsRunning {
			return err
		}
		return c.call(ctx, http.MethodPut, "FSSNAPSHOT/rollback_fssnapshot", map[string]any{"ID": s.ID}, nil)
	})
	if err != nil {
		return err
	}
	return c.await(ctx, s.Of)
}

// await waits until no roll back of the file system runs.
func (c *client) await(ctx context.Context, system string) error {
	for {
		now, err := c.progress(ctx, system)
		switch {
		case err != nil:
			return err
		case now.Status == rollbackIsPaused || now.Status == rollbackIsStopped:
			return fmt.Errorf("the storage array has stopped it at %s %%", now.Rate)
		case now.Status != rollbackIsRunning:
			return nil // complete, or idle again
		}
		if !clock.Sleep(ctx, c.again) {
			return fmt.Errorf("it is at %s %%: %w", now.Rate, context.Cause(ctx))
		}
	}
}

func (c *client) progress(ctx context.Context, system string) (rollback, error) {
	var r rollback
	if err := c.ask(ctx, http.MethodGet, "FSSNAPSHOT/query_fs_snapshot_rollback?PARENTNAME="+url.QueryEscape(system), nil, &r); err != nil {
		return r, fmt.Errorf("ask how far it is: %w", err)
	}
	return r, nil
}
