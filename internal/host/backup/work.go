package backup

import (
	"context"
	"errors"
	"fmt"
)

// Make is the Backup of all providers, once the request is prepared: one works on
// a backup at a time, and one that is there already is not made again. state tells
// how far it has come, make makes it and saves its receipt; what make leaves when
// it fails, it removes.
func Make(ctx context.Context, q Request, state func(*Lock) (State, error), make func(*Lock) (Receipt, error)) (Receipt, error) {
	var rec Receipt
	err := locked(ctx, q, func(l *Lock) error {
		s, err := state(l)
		if err == nil && s == Done {
			rec, err = Load(q)
		} else if err == nil {
			rec, err = make(l)
		}
		return err
	})
	if err != nil {
		return Receipt{}, err
	}
	return rec, nil
}

// Restore is the Restore of all providers: the receipt is looked at, see
// CheckReceipt, and nobody else works on the backup meanwhile.
func Restore(ctx context.Context, rec Receipt, provider string, data any, restore func(*Lock) error) error {
	if err := CheckReceipt(rec, provider, data); err != nil {
		return err
	}
	return locked(ctx, rec.Request(), func(l *Lock) error {
		if err := restore(l); err != nil {
			return fmt.Errorf("restore backup %s: %w", rec.ID, err)
		}
		return nil
	})
}

// Delete is the Delete of all providers: as Restore, but that a backup whose
// directory is gone is none. remove ends with the receipt, so that a crash leaves
// something to delete by.
func Delete(ctx context.Context, rec Receipt, provider string, data any, remove func(*Lock) error) error {
	if err := CheckReceipt(rec, provider, data); err != nil {
		return err
	}
	if there, err := Exists(rec.Dir); err != nil || !there {
		return err
	}
	return locked(ctx, rec.Request(), func(l *Lock) error {
		if err := remove(l); err != nil {
			return fmt.Errorf("delete backup %s: %w", rec.ID, err)
		}
		return nil
	})
}

// locked does something while nobody else works on the backup.
func locked(ctx context.Context, q Request, do func(*Lock) error) (err error) {
	lock, err := Acquire(ctx, q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	return do(lock)
}
