//! Segments: runs of rows with a number of their own, in memory or in a Parquet file, each with a bitmap of its dead rows.

use crate::files::{DataFile, arrow_error};
use crate::snapshot::{FileView, HotView};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::SchemaRef;
use mainstem_types::{Column, Result, TableSchema};
use roaring::RoaringBitmap;
use std::sync::{Arc, OnceLock, Weak};

/// Rows after which an open segment is sealed.
pub(crate) const SEGMENT_ROWS: u32 = 8192;

pub(crate) struct Segment {
    pub rows: u32,
    pub dead: Arc<RoaringBitmap>,
    pub body: Body,
}

pub(crate) enum Body {
    Hot(Hot),
    File(Filed),
}

impl Body {
    pub fn file(&self) -> Option<&Arc<DataFile>> {
        match self {
            Self::Hot(_) => None,
            Self::File(filed) => Some(&filed.file),
        }
    }
}

/// Rows in memory, in the table's native Arrow types. Small commits are merged as a binary counter counts: a row is copied a few times
/// over, and there are never more than a dozen pieces.
#[derive(Clone, Default)]
pub(crate) struct Hot {
    pub pieces: Vec<Piece>,
    pub bytes: usize,
    /// Being written by a flush.
    pub frozen: bool,
}

#[derive(Clone)]
pub(crate) struct Piece {
    /// Its first row's number in the segment.
    pub start: u32,
    pub rows: RecordBatch,
    /// The same as queries see it; made at first use.
    views: Arc<OnceLock<RecordBatch>>,
}

/// Rows in a Parquet file.
pub(crate) struct Filed {
    pub file: Arc<DataFile>,
    view: Option<Arc<FileView>>,
    /// Every view handed out: the file stays while one of them lives.
    handed_out: Vec<Weak<FileView>>,
}

impl Filed {
    pub fn new(file: Arc<DataFile>) -> Self {
        Self { file, view: None, handed_out: Vec::new() }
    }

    pub fn handed_out(&self) -> impl Iterator<Item = Weak<FileView>> + '_ {
        self.handed_out.iter().filter(|v| v.strong_count() > 0).cloned()
    }
}

impl Hot {
    /// Adds rows at the end.
    pub fn push(&mut self, start: u32, rows: RecordBatch) -> Result<()> {
        self.pieces.push(Piece { start, rows, views: Arc::default() });
        while let [.., before, last] = self.pieces.as_slice()
            && before.rows.num_rows() < last.rows.num_rows() * 2
        {
            self.merge_from(self.pieces.len() - 2)?;
        }
        self.bytes = self.pieces.iter().map(|p| p.rows.get_array_memory_size()).sum();
        Ok(())
    }

    /// Makes one piece of all.
    pub fn seal(&mut self) -> Result<()> {
        if self.pieces.len() > 1 {
            self.merge_from(0)?;
            self.bytes = self.pieces.iter().map(|p| p.rows.get_array_memory_size()).sum();
        }
        Ok(())
    }

    fn merge_from(&mut self, first: usize) -> Result<()> {
        let merged = self.pieces.split_off(first);
        let rows = concat_batches(&merged[0].rows.schema(), merged.iter().map(|p| &p.rows)).map_err(arrow_error)?;
        self.pieces.push(Piece { start: merged[0].start, rows, views: Arc::default() });
        Ok(())
    }

    /// Where a row is: (piece, row in it).
    pub fn locate(&self, row: u32) -> (usize, usize) {
        let piece = self.pieces.partition_point(|p| p.start <= row).saturating_sub(1);
        (piece, (row - self.pieces[piece].start) as usize)
    }

    /// Takes over a changed schema: columns by id, new ones NULL.
    pub fn evolve(&mut self, from: &TableSchema, to: &TableSchema, arrow: &SchemaRef) -> Result<()> {
        for piece in &mut self.pieces {
            let columns = (to.columns.iter().zip(arrow.fields())).map(|(column, field)| match from.index_of(column.id) {
                Some(at) => piece.rows.column(at).clone(),
                None => new_null_array(field.data_type(), piece.rows.num_rows()),
            });
            let rows = RecordBatch::try_new(arrow.clone(), columns.collect()).map_err(arrow_error)?;
            *piece = Piece { start: piece.start, rows, views: Arc::default() };
        }
        Ok(())
    }
}

impl Piece {
    pub fn end(&self) -> u32 {
        self.start + self.rows.num_rows() as u32
    }

    fn view(&self, views: &SchemaRef) -> Result<RecordBatch> {
        if let Some(view) = self.views.get() {
            return Ok(view.clone());
        }
        let shown = |(column, field): (&ArrayRef, &Arc<arrow::datatypes::Field>)| match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => cast(column, field.data_type()),
        };
        let columns =
            self.rows.columns().iter().zip(views.fields()).map(shown).collect::<Result<Vec<_>, _>>().map_err(arrow_error)?;
        let view = RecordBatch::try_new(views.clone(), columns).map_err(arrow_error)?;
        Ok(self.views.get_or_init(|| view).clone())
    }
}

impl Segment {
    pub fn hot() -> Self {
        Self { rows: 0, dead: Arc::default(), body: Body::Hot(Hot::default()) }
    }

    pub fn filed(file: Arc<DataFile>, dead: Arc<RoaringBitmap>) -> Self {
        Self { rows: file.rows as u32, dead, body: Body::File(Filed::new(file)) }
    }

    pub fn is_live(&self, row: u32) -> bool {
        row < self.rows && !self.dead.contains(row)
    }

    /// Whether another column had this one's name when the rows were written.
    pub fn had_another(&self, column: &Column) -> bool {
        matches!(&self.body, Body::File(filed) if filed.file.had_another(column))
    }

    /// Marks a row dead; false when it was. Copies the bitmap when a snapshot shares it.
    pub fn kill(&mut self, row: u32) -> bool {
        if let Body::File(filed) = &mut self.body {
            filed.view = None;
        }
        Arc::make_mut(&mut self.dead).insert(row)
    }

    pub fn show(&mut self, views: &SchemaRef, hot: &mut Vec<HotView>, files: &mut Vec<Arc<FileView>>) -> Result<()> {
        let all = (!self.dead.is_empty()).then(|| self.dead.clone());
        match &mut self.body {
            Body::Hot(body) => {
                for piece in &body.pieces {
                    let deleted = match &all {
                        Some(all) if body.pieces.len() > 1 => {
                            let part: RoaringBitmap = all.range(piece.start..piece.end()).map(|row| row - piece.start).collect();
                            (!part.is_empty()).then(|| Arc::new(part))
                        }
                        all => all.clone(),
                    };
                    if deleted.as_ref().is_none_or(|d| d.len() < piece.rows.num_rows() as u64) {
                        hot.push(HotView { batch: piece.view(views)?, deleted });
                    }
                }
            }
            Body::File(filed) => files.push(filed.show(all)),
        }
        Ok(())
    }
}

impl Filed {
    fn show(&mut self, deleted: Option<Arc<RoaringBitmap>>) -> Arc<FileView> {
        if let Some(view) = &self.view {
            return view.clone();
        }
        let file = &self.file;
        let view = Arc::new(FileView {
            path: file.path.clone(),
            bytes: file.bytes,
            rows: file.rows,
            row_groups: file.row_groups.clone(),
            deleted,
            ranges: file.ranges.clone(),
            seal: file.seal.clone(),
            derived: OnceLock::new(),
        });
        self.handed_out.retain(|v| v.strong_count() > 0);
        self.handed_out.push(Arc::downgrade(&view));
        self.view = Some(view.clone());
        view
    }
}
