package mariadb

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/host/replica"
)

// parse reads a list of GTIDs as MariaDB writes it: DOMAIN-SERVER-SEQ, parted by commas.
func parse(list string) ([]replica.Transaction, error) {
	var out []replica.Transaction
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		part := strings.Split(item, "-")
		if len(part) != 3 {
			return nil, fmt.Errorf("GTID %.80q: want DOMAIN-SERVER-NUMBER", item)
		}
		var n [3]uint64
		for i, bits := range []int{32, 32, 64} {
			v, err := strconv.ParseUint(part[i], 10, bits)
			if err != nil {
				return nil, fmt.Errorf("GTID %.80q: want DOMAIN-SERVER-NUMBER", item)
			}
			n[i] = v
		}
		out = append(out, replica.Transaction{Domain: uint32(n[0]), Server: uint32(n[1]), Seq: n[2]})
	}
	return out, nil
}

// gtids writes such a list.
func gtids(all []replica.Transaction) string {
	var out []string
	for _, t := range all {
		out = append(out, fmt.Sprintf("%d-%d-%d", t.Domain, t.Server, t.Seq))
	}
	return strings.Join(out, ",")
}

// common is where two histories part, with each domain of mine once, as mariadb-binlog wants it: of a domain that has errant
// transactions the last transaction before them, and the number 0 when it was errant from its beginning on; of any other one
// the last transaction.
func common(mine, peer []replica.Transaction) []replica.Transaction {
	errant := map[uint32]bool{}
	for _, e := range replica.Errant(mine, peer) {
		errant[e.Domain] = true
	}
	var out []replica.Transaction
	at := map[uint32]int{}
	for _, m := range mine {
		i, seen := at[m.Domain]
		if !seen {
			i = len(out)
			at[m.Domain], out = i, append(out, replica.Transaction{Domain: m.Domain})
		}
		if errant[m.Domain] {
			m.Seq = min(m.Seq, replica.Last(peer, m.Domain, m.Server))
		}
		if m.Seq > out[i].Seq {
			out[i] = m
		}
	}
	return out
}

// stateAt is what the state of the primary's binary log was at a position: of each domain
// the position itself, and the last ones of other servers before it. Without them this node
// would not know, as a primary, what its peer has from long ago. Numbers grow within a
// domain, so what is beyond the position came later.
func stateAt(position, peer []replica.Transaction) []replica.Transaction {
	var out []replica.Transaction
	for _, at := range position {
		for _, p := range peer {
			if p.Domain == at.Domain && p.Server != at.Server && p.Seq < at.Seq {
				out = append(out, p)
			}
		}
		out = append(out, at)
	}
	return out
}
