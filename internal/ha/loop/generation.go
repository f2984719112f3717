package loop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/store"
)

// ErrRestored: the store was restored from a backup while this agent ran. A new
// one must begin: it trusts nothing that this one knew.
var ErrRestored = errors.New("the store was restored")

// errOlder: the store's content is older than what this host has seen, or of
// another restore.
var errOlder = errors.New("the store is of an older generation than this host has seen, or of another restore")

// generationRandom is how many bits of a generation are random. With the minutes
// since 1970 before them it has at most 53 bits until the year 2097, so that
// readers of JSON that know no whole numbers but doubles read it exactly.
const generationRandom = 27

// nextGeneration is the number of a new generation: above the highest one that is
// known, and of this restore alone. Its first part is the time in minutes, so that
// the later of two restores that know nothing of each other is the one that is
// followed; the rest is random (docs/adr/0017). Where a generation of the future is
// known, the first part is one above that one's.
func nextGeneration(known uint64, now time.Time) (uint64, error) {
	first := max(uint64(max(0, now.Unix()))/60, known>>generationRandom+1)
	if first>>(64-generationRandom) != 0 {
		return 0, fmt.Errorf("there is no generation above %d", known)
	}
	last, err := rand.Int(rand.Reader, big.NewInt(1<<generationRandom))
	if err != nil {
		return 0, fmt.Errorf("choose a generation: %w", err)
	}
	return first<<generationRandom | last.Uint64(), nil
}

// generation compares the store's restore generation with the highest one that
// this host has seen, and gives the one to follow. A later one ends the agent, an
// older one is not followed, unless this host has given its own, later one up for it. Its
// records were read, and may have later revisions: when another store answers again, that ends
// the agent, too.
func (a *Agent) generation() (uint64, error) {
	known, g := a.s.core.Gen, max(a.s.gen, 1)
	if g < a.s.seen && a.Settled != nil && a.Settled(g) {
		if err := a.Remember(g); err != nil {
			return known, fmt.Errorf("remember the store's generation: %w", err)
		}
		a.s.seen = g
	}
	switch {
	case a.s.older != 0 && a.s.older != g:
		a.fatal = fmt.Errorf("%w: generation %d, and that of %d was read before", ErrRestored, g, a.s.older)
		return known, nil
	case g < a.s.seen:
		a.s.older = g
		return known, fmt.Errorf("%w: generation %d, seen %d; join this host's member to the store of generation %d, "+
			"or restore the one that is to be kept once more, on this host",
			errOlder, g, a.s.seen, a.s.seen)
	case known == 0 || known == g:
		if a.Remember != nil && g > a.s.seen {
			if err := a.Remember(g); err != nil {
				return known, fmt.Errorf("remember the store's generation: %w", err)
			}
		}
		a.s.seen = g
		return g, nil
	default:
		a.fatal = fmt.Errorf("%w: generation %d, was %d", ErrRestored, g, known)
		return known, nil
	}
}

// generationFile holds the highest restore generation that a host has seen.
const generationFile = "generation"

// LoadGeneration reads it; 0: none yet.
func LoadGeneration(dataDir string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, generationFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the store's generation: %w", err)
	}
	g, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the store's generation: %s: %w", filepath.Join(dataDir, generationFile), err)
	}
	return g, nil
}

// StoreGeneration writes it, on disk before it returns.
func StoreGeneration(dataDir string, g uint64) error {
	file := filepath.Join(dataDir, generationFile)
	return durable.WriteFile(file, fmt.Appendln(nil, g), 0o600)
}

// NewGeneration makes a restored store that of a generation which no host has
// seen and no other restore has, and forgets the hosts' records: they are of the
// past.
func NewGeneration(ctx context.Context, st store.Store, seen uint64) (uint64, error) {
	kv, found, err := st.Get(ctx, records.KeyGeneration)
	if err != nil {
		return 0, fmt.Errorf("read the generation: %w", err)
	}
	was, err := records.Decode[uint64](kv, !found)
	if err != nil {
		return 0, err
	}
	next, err := DrawGeneration(max(was, seen))
	if err != nil {
		return 0, err
	}
	return next, BeginGeneration(ctx, st, next, nil)
}

// DrawGeneration is the number of a new generation above known, which no other has.
func DrawGeneration(known uint64) (uint64, error) {
	return nextGeneration(max(known, 1), time.Now())
}

// BeginGeneration makes a restored store that of generation next, as NewGeneration does.
// Of the hosts in off it is proved that they are off, which counts as an operator's word.
func BeginGeneration(ctx context.Context, st store.Store, next uint64, off []cluster.Off) error {
	return beginGeneration(ctx, st, next, off, nil)
}

// CarryGeneration is BeginGeneration for a store that lacks nothing, on a host where the guest runs by
// the license of it: the host keeps it, by the same epoch of generation next. false: the owner record says
// something else, and nothing was written.
func CarryGeneration(ctx context.Context, st store.Store, next uint64, host cluster.HostID, license cluster.Epoch) (bool, error) {
	kv, found, err := st.Get(ctx, records.OwnerKey(cluster.MgmtVM))
	if err != nil {
		return false, fmt.Errorf("read the owner record: %w", err)
	}
	o, err := records.Decode[cluster.Owner](kv, !found)
	if err != nil || o.State != cluster.Running || o.Host != host || o.Epoch != license {
		return false, err
	}
	o.Epoch.Gen = next
	return true, beginGeneration(ctx, st, next, nil, &store.Op{Key: kv.Key, Value: records.Encode(o)})
}

func beginGeneration(ctx context.Context, st store.Store, next uint64, off []cluster.Off, owner *store.Op) error {
	kv, _, err := st.Get(ctx, records.KeyGeneration)
	if err != nil {
		return fmt.Errorf("read the generation: %w", err)
	}
	ops := []store.Op{{Key: records.KeyGeneration, Value: records.Encode(next)}}
	if owner != nil {
		ops = append(ops, *owner)
	}
	hosts, _, err := st.List(ctx, records.KeyHosts)
	if err != nil {
		return fmt.Errorf("list the hosts: %w", err)
	}
	for _, h := range hosts {
		ops = append(ops, store.Op{Key: h.Key})
	}
	// An operator's word was said of a host as it was then.
	want, wanted, err := st.Get(ctx, records.WantKey(cluster.MgmtVM))
	if err != nil {
		return fmt.Errorf("read what is asked for: %w", err)
	}
	if wanted {
		w, err := records.Decode[cluster.Want](want, false)
		if err != nil {
			return err
		}
		w.Off = off
		ops = append(ops, store.Op{Key: want.Key, Value: records.Encode(w)})
	}
	_, ok, err := st.Txn(ctx, []store.Cmp{{Key: records.KeyGeneration, Rev: kv.ModRev}}, ops)
	if err == nil && !ok {
		err = errors.New("the generation has changed meanwhile")
	}
	if err != nil {
		return fmt.Errorf("begin generation %d: %w", next, err)
	}
	return nil
}

// Plant puts the configuration and whether the guest shall run into a store that has
// none yet. The first agent of the cluster wins.
func Plant(ctx context.Context, st store.Store, cfg config.Cluster, run bool) error {
	for {
		tctx, cancel := context.WithTimeout(ctx, writeWithin)
		_, _, err := st.Txn(tctx, []store.Cmp{{Key: records.KeyConfig}}, []store.Op{
			{Key: records.KeyConfig, Value: records.Encode(cfg)},
			{Key: records.WantKey(cluster.MgmtVM), Value: records.Encode(cluster.Want{Run: run})},
		})
		if err == nil {
			secret := make([]byte, 32)
			rand.Read(secret)
			_, _, err = st.Txn(tctx, []store.Cmp{{Key: records.KeyBeat}}, []store.Op{{Key: records.KeyBeat, Value: records.Encode(secret)}})
		}
		cancel()
		if err == nil {
			return nil
		}
		if !clock.Sleep(ctx, followAgain) {
			return nil
		}
	}
}
