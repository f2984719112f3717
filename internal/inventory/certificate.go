package inventory

import "time"

// Certificate is one of a host, as the host itself tells of it.
type Certificate struct {
	Which   string    `json:"which"`  // agent, memory, libvirt
	Serial  string    `json:"serial"` // hex
	Ends    time.Time `json:"ends"`
	State   string    `json:"state"`             // CertValid and the others
	Problem string    `json:"problem,omitempty"` // why it is not renewed or not in use; "" for nothing
}

// At is what the last word of a host means at a time: it may be silent since.
func (c Certificate) At(now time.Time) Certificate {
	if now.After(c.Ends) && !c.Ends.IsZero() {
		c.State = CertExpired
	}
	return c
}

// States of a certificate.
const (
	CertValid   = "valid"
	CertDue     = "due"       // its renewal
	CertSoon    = "ends soon" // it should have been renewed
	CertExpired = "expired"
)

// certSoon is how long before the end of a certificate people hear of it, at most.
const certSoon = 30 * 24 * time.Hour

// CertState is that of a certificate by its life, its end and when its renewal is due. It ends soon when less than
// 30 days are left, of short ones less than a quarter of their life: by then it should have been renewed.
func CertState(life time.Duration, ends, due, now time.Time) string {
	switch left := ends.Sub(now); {
	case left <= 0:
		return CertExpired
	case left < min(certSoon, life/4):
		return CertSoon
	case !now.Before(due):
		return CertDue
	}
	return CertValid
}
