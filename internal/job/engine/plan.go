package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"holdfast/internal/store"
)

// Sizes of plans, bytes.
const (
	pieceSize = 480 << 10 // of a piece in the store
	maxPieces = 64        // the last transaction of Submit compares each
	maxPlan   = 256 << 20 // of the plan itself
)

// PlanSum is what Job.Plan must be for the plan.
func PlanSum(plan []byte) string {
	sum := sha256.Sum256(plan)
	return hex.EncodeToString(sum[:])
}

// pack makes the pieces of a plan.
func pack(plan []byte) ([][]byte, error) {
	if len(plan) > maxPlan {
		return nil, fmt.Errorf("plan of %d bytes: at most %d are possible", len(plan), maxPlan)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plan); err != nil {
		return nil, fmt.Errorf("compress the plan: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress the plan: %w", err)
	}
	if b.Len() > maxPieces*pieceSize {
		return nil, fmt.Errorf("plan of %d bytes when compressed: at most %d are possible", b.Len(), maxPieces*pieceSize)
	}
	var out [][]byte
	for b.Len() > 0 {
		out = append(out, bytes.Clone(b.Next(pieceSize)))
	}
	return out, nil
}

// writePlan writes the pieces and returns conditions that hold as long as they
// are there, as they were written.
func writePlan(ctx context.Context, st store.Store, id string, pieces [][]byte) ([]store.Cmp, error) {
	var conds []store.Cmp
	for n, p := range pieces {
		key := planKey(id, n)
		rev, ok, err := settle(ctx, st, key, p, []store.Cmp{{Key: key}}, []store.Op{{Key: key, Value: p}})
		if err != nil {
			return conds, fmt.Errorf("write the plan of job %s: %w", id, err)
		}
		if !ok {
			return conds, fmt.Errorf("write the plan of job %s: there is one with this id already: %w", id, ErrRefused)
		}
		conds = append(conds, store.Cmp{Key: key, Rev: rev})
	}
	return conds, nil
}

// readPlan reads a plan and checks it against its sum. ok is false, with the
// reason as an error, when what is in the store is not that plan; else the error
// is the store's.
func readPlan(ctx context.Context, st store.Store, id, sum string) (plan []byte, ok bool, err error) {
	kvs, _, err := list(ctx, st, plansKey(id))
	if err != nil {
		return nil, true, fmt.Errorf("read the plan of job %s: %w", id, err)
	}
	var b bytes.Buffer
	for n, kv := range kvs {
		if kv.Key != planKey(id, n) {
			return nil, false, fmt.Errorf("plan of job %s: want piece %s, have %s", id, planKey(id, n), kv.Key)
		}
		b.Write(kv.Value)
	}
	plan, err = unpack(&b)
	if err != nil {
		return nil, false, fmt.Errorf("plan of job %s: %w", id, err)
	}
	if got := PlanSum(plan); got != sum {
		return nil, false, fmt.Errorf("plan of job %s: its SHA-256 is %s, the job says %s", id, got, sum)
	}
	return plan, true, nil
}

func unpack(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("uncompress: %w", err)
	}
	plan, err := io.ReadAll(io.LimitReader(z, maxPlan+1))
	if err != nil {
		return nil, fmt.Errorf("uncompress: %w", err)
	}
	if len(plan) > maxPlan {
		return nil, fmt.Errorf("uncompress: more than %d bytes", maxPlan)
	}
	return plan, nil
}
