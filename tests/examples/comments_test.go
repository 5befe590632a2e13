package examples_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
)

// pageKey is the key that the page starts the sidecar with: it must be one that the sidecar takes.
var pageKey = regexp.MustCompile(`\nOPENAI_API_KEY=(\S+) `)

// moderator is a provider on loopback, in the form of OpenAI's moderation.
type moderator struct {
	*httptest.Server
	key    string
	isDown atomic.Bool
	mutex  sync.Mutex
	keys   map[string][]string // Idempotency-Keys, by text
	wrong  []string            // Authorization that is not the key
}

func newModerator(t *testing.T) *moderator {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs/examples/comments/README.md"))
	key := pageKey.FindStringSubmatch(string(page))
	if err != nil || key == nil {
		t.Fatalf("find the provider's key on the page: %v", err)
	}
	m := &moderator{key: key[1], keys: map[string][]string{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

// ServeHTTP implements http.Handler.
func (m *moderator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Input string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mutex.Lock()
	m.keys[asked.Input] = append(m.keys[asked.Input], r.Header.Get("Idempotency-Key"))
	if key := r.Header.Get("Authorization"); key != "Bearer "+m.key {
		m.wrong = append(m.wrong, key)
	}
	m.mutex.Unlock()
	score := 0.01
	switch {
	case m.isDown.Load():
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case strings.Contains(asked.Input, "hurt"):
		score = 0.97
	case strings.Contains(asked.Input, "crime"):
		score = 0.51
	}
	fmt.Fprintf(w, `{"echo": %q, "results": [{"category_scores": {"violence": %v, "spam": 0.02}}]}`,
		r.Header.Get("Authorization"), score)
}

// The page of the moderated comments does what it shows, through an outage; the key stays outside, and nobody
// approves himself.
func TestComments(t *testing.T) {
	t.Parallel()
	m := newModerator(t)
	s := setup(t, "LOGLINE_FETCH_ALLOW="+m.Listener.Addr().String(), "LOGLINE_SECRETS=OPENAI_API_KEY",
		"OPENAI_API_KEY="+m.key)
	s.env = append(s.env, "PROVIDER_URL="+m.URL)
	s.read(pages.Marked(t, "docs/examples/comments/README.md"), map[int]func(){
		2: func() { m.isDown.Store(true) },
		3: func() { m.isDown.Store(false) },
	})

	const lost = "Nobody asks about me."
	m.mutex.Lock()
	keys, wrong := m.keys[lost], m.wrong
	m.mutex.Unlock()
	if len(keys) != 4 || keys[0] == "" || keys[0] != keys[1] || keys[0] != keys[3] {
		t.Errorf("the provider is asked with the keys %v, want one, four times", keys)
	}
	if len(wrong) > 0 {
		t.Errorf("the provider is asked with %v in the place of the key", wrong)
	}
	if held := s.text(ops, `select count(*) from ledger.history as r where r::text like '%' || $1 || '%'`, m.key); held != "0" {
		t.Errorf("%s spans hold the key", held)
	}
	if errors := s.text(ops, `select string_agg(error ->> 'message', '; ') from ledger.visible_timeline
		where entity_type = 'policy_error'`); errors != "" {
		t.Errorf("policies fail: %s", errors)
	}
	wantNobodyApprovesHimself(s)
	wantStandIn(t)
}

// wantNobodyApprovesHimself tries what an author could, after the page has run.
func wantNobodyApprovesHimself(s *system) {
	const feed = "select string_agg(text, ', ' order by text) from public.comment_feed"
	approved := s.text(alice, feed)
	if seen := s.text(bob, feed); seen != "" {
		s.t.Errorf("bob of another tenant reads %s", seen)
	}
	const rejected = "select id from ledger.visible_timeline where content ->> 'text' like '%hurt%'"
	if code := s.write(alice, `insert into ledger.universal_registry
			(id, seq, entity_type, status, visibility, parent_id, content)
		select id, seq + 1, entity_type, 'approved', visibility, parent_id, content
		from ledger.visible_timeline
		where entity_type = 'moderation' and parent_id = (`+rejected+`)`); code != "LL002" {
		s.t.Errorf("alice approves her own comment: %q, want LL002", code)
	}
	if code := s.write(alice, `insert into ledger.universal_registry
			(entity_type, status, visibility, parent_id, content)
		values ('moderation', 'approved', 'tenant', (`+rejected+`), '{"seq": 0}')`); code != "" {
		s.t.Fatalf("alice appends a moderation of her own: %s", code)
	}
	if now := s.text(alice, feed); now != approved {
		s.t.Errorf("with a moderation of her own the feed is %s, was %s", now, approved)
	}
	// A text that is changed leaves the feed at once, and is judged anew.
	if code := s.write(alice, `insert into ledger.universal_registry
			(id, seq, entity_type, status, visibility, content)
		select id, seq + 1, entity_type, status, visibility, '{"text": "I shall hurt you after all."}'
		from ledger.visible_timeline where content ->> 'text' = 'What a lovely lamp.'`); code != "" {
		s.t.Fatalf("alice changes her comment: %s", code)
	}
	if now := s.text(alice, feed); strings.Contains(now, "hurt") {
		s.t.Errorf("what was changed is in the feed before it is judged: %s", now)
	}
	s.becomes("rejected 1", ops, `select m.status || ' ' || (m.content ->> 'seq') from ledger.visible_timeline as m
		join ledger.visible_timeline as c on c.id = m.parent_id
		where m.owner_id = 'ops' and c.content ->> 'text' like '%after all%'`)
	if now := s.text(alice, feed); strings.Contains(now, "lovely") || strings.Contains(now, "hurt") {
		s.t.Errorf("the feed is %s", now)
	}
}

// wantStandIn asks the stand-in of the page as the function does.
func wantStandIn(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Log("provider.mjs is not run: Node is not installed")
		return
	}
	command := exec.CommandContext(t.Context(), program,
		filepath.Join(root, "docs", "examples", "comments", "provider.mjs"), "0")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the stand-in does not say where it listens: %v", err)
	}
	for key, want := range map[string]int{"": http.StatusUnauthorized, "Bearer any": http.StatusOK} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			strings.TrimSpace(address)+"/v1/moderations", strings.NewReader(`{"input": "hurt"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("the stand-in answers %d with the key %q, want %d", response.StatusCode, key, want)
		}
	}
}
