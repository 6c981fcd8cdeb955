package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Product is one thing to buy, as it stands on disk.
type Product struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceCents int64  `json:"price_cents"`
	Stock      int64  `json:"stock"`
}

// Line is so many of one product.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// order is a reservation. In a log that was rewritten it has no lines: the products' stock has them.
type order struct {
	ID         string `json:"id"`
	Lines      []Line `json:"lines,omitempty"`
	TotalCents int64  `json:"total_cents"`
}

// record is one line of the log: a product as it is from now on, or an order that takes from the stock.
type record struct {
	Product *Product `json:"product,omitempty"`
	Order   *order   `json:"order,omitempty"`
}

const (
	logName  = "catalogue.jsonl"
	lockName = "lock"
	// followEvery is how often the log is looked at for what other processes wrote.
	followEvery = 20 * time.Millisecond
	// rewriteAbove is the size from which a log is rewritten once it is twice what it holds.
	rewriteAbove = 1 << 20
)

// Store is products and reservations in a directory, which several processes may share: the truth is a log
// of JSON lines. Who writes has the lock of the directory and appends with one write; who reads follows
// the log. From time to time the log is rewritten without its history, and renamed into place.
type Store struct {
	dir  string
	lock *os.File
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	log      *os.File
	offset   int64 // up to here the log was read
	written  int64 // its size when it was rewritten
	products map[string]Product
	orders   map[string]int64 // total by id
	changed  chan struct{}    // closed, and made anew, when something changes
}

// Open opens the store of a directory, which is made if it is not there.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: lock, stop: make(chan struct{}), changed: make(chan struct{})}
	s.reset()
	if err := s.Update(func() ([]record, error) { return nil, nil }); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.wg.Go(s.follow)
	return s, nil
}

// Close waits for what the store does in the background.
func (s *Store) Close() error {
	close(s.stop)
	s.wg.Wait()
	return s.close()
}

func (s *Store) close() error {
	err := s.lock.Close()
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	return err
}

func (s *Store) reset() {
	s.offset, s.products, s.orders = 0, make(map[string]Product), make(map[string]int64)
}

// follow reads what other processes write. It looks instead of being told, because that works on every
// system and costs one stat.
func (s *Store) follow() {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.mu.Lock()
			_ = s.catchUp() // an error here comes again with the next write, and is told there
			s.mu.Unlock()
		}
	}
}

// View calls f with the products as they are, whoever wrote last, and returns a channel that is closed
// when they change. f must not change or keep them.
func (s *Store) View(f func(products map[string]Product)) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.catchUp() // an error here comes again with the next write, and is told there
	f(s.products)
	return s.changed
}

// Update lets decide look at the products and orders as they are, and writes what it returns. Nobody else
// writes meanwhile, in no process.
func (s *Store) Update(decide func() ([]record, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", s.dir, err)
	}
	defer func() { _ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN) }()
	if err := s.catchUp(); err != nil {
		return err
	}
	// A writer that died half-way left a line without an end. Nobody has read it.
	if err := s.log.Truncate(s.offset); err != nil {
		return err
	}
	records, err := decide()
	if err != nil || len(records) == 0 {
		return err
	}
	b, err := encode(records)
	if err != nil {
		return err
	}
	if _, err := s.log.WriteAt(b, s.offset); err != nil {
		return err
	}
	if err := s.log.Sync(); err != nil {
		return err
	}
	if err := s.catchUp(); err != nil {
		return err
	}
	if s.offset > rewriteAbove && s.offset > 2*s.written {
		return s.rewrite()
	}
	return nil
}

func encode(records []record) ([]byte, error) {
	var b bytes.Buffer
	for _, r := range records {
		if err := json.NewEncoder(&b).Encode(r); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// catchUp applies what was written since it was called last. The lock need not be held: a line counts only
// once its end is there.
func (s *Store) catchUp() error {
	if err := s.reopen(); err != nil {
		return err
	}
	info, err := s.log.Stat()
	if err != nil || info.Size() <= s.offset {
		return err
	}
	b := make([]byte, info.Size()-s.offset)
	n, err := s.log.ReadAt(b, s.offset)
	if err != nil && err != io.EOF {
		return err
	}
	end := bytes.LastIndexByte(b[:n], '\n') + 1
	for line := range bytes.Lines(b[:end]) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s, behind byte %d: %w", s.log.Name(), s.offset, err)
		}
		s.offset += int64(len(line))
		s.apply(r)
	}
	if end > 0 {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// reopen opens the log, anew when another process has rewritten it.
func (s *Store) reopen() error {
	path := filepath.Join(s.dir, logName)
	if s.log != nil {
		now, err := os.Stat(path)
		if err != nil {
			return err
		}
		open, err := s.log.Stat()
		if err != nil || os.SameFile(now, open) {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if s.log != nil {
		_ = s.log.Close()
	}
	s.log = f
	s.reset()
	return nil
}

func (s *Store) apply(r record) {
	if r.Product != nil {
		s.products[r.Product.SKU] = *r.Product
	}
	if r.Order == nil {
		return
	}
	s.orders[r.Order.ID] = r.Order.TotalCents
	for _, l := range r.Order.Lines {
		p := s.products[l.SKU]
		p.Stock -= l.Quantity
		s.products[l.SKU] = p
	}
}

// rewrite writes a log of what there is now, and puts it in place of the old one. The lock is held.
func (s *Store) rewrite() error {
	var records []record
	for p := range maps.Values(s.products) {
		records = append(records, record{Product: &p})
	}
	for id, total := range s.orders {
		records = append(records, record{Order: &order{ID: id, TotalCents: total}})
	}
	b, err := encode(records)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, logName)
	if err := writeSynced(path+".new", b); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	s.written = int64(len(b))
	return s.catchUp()
}

func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
