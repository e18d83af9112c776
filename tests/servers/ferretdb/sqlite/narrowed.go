package sqlite

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/FerretDB/FerretDB/internal/backends/sqlite/metadata"
	"github.com/FerretDB/FerretDB/internal/handler/sjson"
	"github.com/FerretDB/FerretDB/internal/types"
	"github.com/FerretDB/FerretDB/internal/util/must"
)

var plain = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// narrowed is a condition in SQL that every document which the filter matches meets, so that SQLite walks an index and
// FerretDB decodes few of the others: by itself it decodes the whole collection for almost any filter. It filters what
// is left again. Looked at are strings and integers that a field equals or is one of.
func narrowed(filter *types.Document) (string, []any) {
	var conditions []string
	var args []any
	for _, key := range filter.Keys() {
		value := must.NotFail(filter.Get(key))
		condition, more := "", []any(nil)
		if branches, ok := value.(*types.Array); ok && (key == "$or" || key == "$and") {
			condition, more = joined(branches, strings.ToUpper(key[1:]))
		} else if plain.MatchString(key) {
			condition, more = among(key, value)
		}
		if condition != "" {
			conditions = append(conditions, condition)
			args = append(args, more...)
		}
	}
	return strings.Join(conditions, " AND "), args
}

func joined(branches *types.Array, operator string) (string, []any) {
	var conditions []string
	var args []any
	for i := range branches.Len() {
		branch, ok := must.NotFail(branches.Get(i)).(*types.Document)
		if !ok {
			return "", nil
		}
		condition, more := narrowed(branch)
		if condition == "" && operator == "OR" {
			return "", nil
		} else if condition != "" {
			conditions = append(conditions, "("+condition+")")
			args = append(args, more...)
		}
	}
	if len(conditions) == 0 {
		return "", nil
	}
	return "(" + strings.Join(conditions, " "+operator+" ") + ")", args
}

func among(key string, value any) (string, []any) {
	wanted := []any{value}
	if operators, ok := value.(*types.Document); ok {
		in, _ := operators.Get("$in")
		array, ok := in.(*types.Array)
		if !ok || array.Len() == 0 || array.Len() > 1000 {
			return "", nil
		}
		wanted = wanted[:0]
		for i := range array.Len() {
			wanted = append(wanted, must.NotFail(array.Get(i)))
		}
	}
	var texts, values []any
	for _, each := range wanted {
		switch each.(type) {
		case string:
			texts = append(texts, string(must.NotFail(sjson.MarshalSingleValue(each))))
			values = append(values, each)
		case int32, int64:
			values = append(values, each)
		default:
			return "", nil
		}
	}
	marks := strings.TrimPrefix(strings.Repeat(", ?", len(values)), ", ")
	if key == "_id" {
		if len(texts) < len(values) {
			return "", nil
		}
		return fmt.Sprintf("%s IN (%s)", metadata.IDColumn, marks), texts
	}
	// An array matches by its elements; as JSON it begins with a bracket, which sorts between these two.
	column := fmt.Sprintf("%s->%q", metadata.DefaultColumn, key)
	array := fmt.Sprintf(`(%s >= '[' AND %s < '\')`, column, column)
	holds := fmt.Sprintf("EXISTS (SELECT 1 FROM json_each(%s) WHERE value IN (%s))", column, marks)
	if len(texts) < len(values) {
		// A number has more than one way to be written.
		return fmt.Sprintf("(NOT %s OR %s)", array, holds), values
	}
	return fmt.Sprintf("(%s IN (%s) OR (%s AND %s))", column, marks, array, holds), append(texts, values...)
}
