"""Videos on the vendor's task routes: created, polled, downloaded."""
