package metrics

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Member is where the member of the store on this host tells its own metrics, which are passed on as they are.
type Member struct {
	url    string
	client *http.Client
}

// Bounds of an answer.
const (
	memberWithin = 3 * time.Second
	memberMost   = 4 << 20 // bytes
)

// NewMember makes one of the URL of a member's clients. conf has the certificate of this host, nil for http.
func NewMember(url string, conf *tls.Config) *Member {
	t := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: conf.Clone(), TLSHandshakeTimeout: memberWithin,
		IdleConnTimeout: time.Minute, MaxIdleConns: 1, HTTP2: &http.HTTP2Config{SendPingTimeout: memberWithin, PingTimeout: memberWithin}}
	t.Protocols.SetHTTP1(conf == nil) // with certificates a member speaks HTTP/2 only
	t.Protocols.SetHTTP2(conf != nil)
	return &Member{strings.TrimSuffix(url, "/") + "/metrics", &http.Client{Transport: t, Timeout: memberWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// read asks the member. Its process has metrics with the names of this one's: only those of etcd are passed on, and none that
// etcd may rename at any time.
func (m *Member) read(ctx context.Context) ([]*dto.MetricFamily, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the store: %w", err)
	}
	r.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	resp, err := m.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the store: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the metrics of the store: %s", resp.Status)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(io.LimitReader(resp.Body, memberMost))
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the store: %w", err)
	}
	var out []*dto.MetricFamily
	for name, f := range families {
		if strings.HasPrefix(name, memberPrefix) && !strings.HasPrefix(name, unstablePrefix) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, nil
}
