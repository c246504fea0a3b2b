"""Self-contained HTML reports with the same facts as JSON: no script, nothing fetched, prints well."""
