package backup

import "fmt"

// Look is the Probe of providers whose backup is files: what must be there beside
// the receipt, and what may be there when a process was stopped half-way.
func Look(q Request, provider string, must, may []string) (State, error) {
	state, err := look(q, provider, must, may)
	if err != nil {
		return "", fmt.Errorf("look for backup %s: %w", q.ID, err)
	}
	return state, nil
}

func look(q Request, provider string, must, may []string) (State, error) {
	count := func(paths []string) (n int, err error) {
		for _, p := range paths {
			there, err := Exists(p)
			if err != nil {
				return 0, err
			}
			if there {
				n++
			}
		}
		return n, nil
	}
	all, err := count(append([]string{q.File()}, must...))
	if err != nil {
		return "", err
	}
	rest, err := count(may)
	if err != nil {
		return "", err
	}
	if all+rest == 0 {
		if held, err := Held(q); err != nil || held {
			return Partial, err
		}
		return NotDone, nil
	}
	if all <= len(must) {
		return Partial, nil
	}
	rec, err := Load(q)
	switch {
	case err != nil:
		return "", err
	case rec.Provider != provider:
		return "", fmt.Errorf("the receipt is of provider %q, not of %q: choose another id", rec.Provider, provider)
	}
	return Done, nil
}
