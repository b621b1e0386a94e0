//! The `.proto` file as data: messages, fields, enums and calls, with their comments.
//!
//! Read once from the descriptors that the build compiled, source comments included. Everything
//! here is what `protoc` said; nothing comes from a request.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, SourceCodeInfo,
};

use crate::routes::Rpc;

/// The package whose messages are known here.
const PACKAGE: &str = "weir.v1";

/// All that the `.proto` file declares, by name without the package.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub(crate) messages: BTreeMap<String, Message>,
    pub(crate) enums: BTreeMap<String, Enumeration>,
    pub(crate) calls: BTreeMap<String, Call>,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) comment: String,
    pub(crate) fields: Vec<Field>,
    /// The one `oneof` takes up all fields.
    pub(crate) is_choice: bool,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// As in the `.proto` file.
    pub(crate) name: String,
    /// In lowerCamelCase.
    pub(crate) json_name: String,
    pub(crate) comment: String,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Bool,
    Unsigned32,
    Unsigned64,
    Text,
    Bytes,
    Enumeration(String),
    Message(String),
    /// By text, to values of a kind.
    Map(Box<Kind>),
}

#[derive(Debug)]
pub(crate) struct Enumeration {
    pub(crate) comment: String,
    pub(crate) values: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) comment: String,
    pub(crate) request: String,
    pub(crate) response: String,
    /// The caller, or the service, sends more than one message.
    pub(crate) streams: (bool, bool),
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.is_named(name))
    }
}

impl Field {
    /// Under either of its names, as protobuf's JSON mapping asks of a reader.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name == name || self.json_name == name
    }

    pub(crate) fn is_message(&self) -> bool {
        matches!(self.kind, Kind::Message(_) | Kind::Map(_))
    }
}

/// What the build compiled.
pub(crate) fn all() -> &'static Descriptors {
    static ALL: LazyLock<Descriptors> = LazyLock::new(|| {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut all = Descriptors::default();
        for file in set.file.iter().filter(|file| file.package() == PACKAGE) {
            all.add(file);
        }
        all
    });
    &ALL
}

/// What a call takes.
pub(crate) fn request_of(rpc: Rpc) -> Option<&'static Message> {
    all().messages.get(&all().calls.get(rpc.name())?.request)
}

impl Descriptors {
    fn add(&mut self, file: &FileDescriptorProto) {
        // Numbers of FileDescriptorProto's fields, as source paths name them.
        const MESSAGE: i32 = 4;
        const ENUM: i32 = 5;
        const SERVICE: i32 = 6;
        const METHOD: i32 = 2;
        let comments = Comments::of(file.source_code_info.as_ref());
        for (index, message) in (0..).zip(&file.message_type) {
            let described = self::message(message, &[MESSAGE, index], &comments);
            self.messages.insert(message.name().to_owned(), described);
        }
        for (index, enumeration) in (0..).zip(&file.enum_type) {
            let described = self::enumeration(enumeration, &[ENUM, index], &comments);
            self.enums.insert(enumeration.name().to_owned(), described);
        }
        for (index, service) in (0..).zip(&file.service) {
            for (method_index, method) in (0..).zip(&service.method) {
                let call = Call {
                    comment: comments.at(&[SERVICE, index, METHOD, method_index]),
                    request: short(method.input_type()),
                    response: short(method.output_type()),
                    streams: (method.client_streaming(), method.server_streaming()),
                };
                self.calls.insert(method.name().to_owned(), call);
            }
        }
    }
}

fn message(message: &DescriptorProto, path: &[i32], comments: &Comments) -> Message {
    const FIELD: i32 = 2;
    let choices = message.oneof_decl.len();
    let chosen = |field: &&FieldDescriptorProto| field.oneof_index == Some(0);
    let all_chosen = message.field.iter().filter(chosen).count() == message.field.len();
    let fields = (0..).zip(&message.field).map(|(index, field)| Field {
        name: field.name().to_owned(),
        json_name: field.json_name().to_owned(),
        comment: comments.at(&[path, &[FIELD, index]].concat()),
        kind: kind(field, message),
        repeated: field.label() == Label::Repeated && !is_map(field, message),
    });
    Message {
        comment: comments.at(path),
        fields: fields.collect(),
        is_choice: choices == 1 && all_chosen,
    }
}

fn kind(field: &FieldDescriptorProto, owner: &DescriptorProto) -> Kind {
    match field.r#type() {
        Type::Bool => Kind::Bool,
        Type::Uint32 | Type::Fixed32 => Kind::Unsigned32,
        Type::Uint64 | Type::Fixed64 => Kind::Unsigned64,
        Type::Bytes => Kind::Bytes,
        Type::Enum => Kind::Enumeration(short(field.type_name())),
        Type::Message => match map_entry(field, owner) {
            Some(entry) => {
                let value = entry.field.iter().find(|field| field.name() == "value");
                Kind::Map(Box::new(value.map_or(Kind::Text, |value| kind(value, entry))))
            }
            None => Kind::Message(short(field.type_name())),
        },
        _ => Kind::Text,
    }
}

fn is_map(field: &FieldDescriptorProto, owner: &DescriptorProto) -> bool {
    map_entry(field, owner).is_some()
}

/// The nested message that `protoc` makes of a map.
fn map_entry<'a>(
    field: &FieldDescriptorProto,
    owner: &'a DescriptorProto,
) -> Option<&'a DescriptorProto> {
    let entries = owner.nested_type.iter().filter(|nested| {
        nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
    });
    let name = field.type_name();
    entries.into_iter().find(|entry| name.ends_with(&format!(".{}", entry.name())))
}

fn enumeration(
    enumeration: &EnumDescriptorProto,
    path: &[i32],
    comments: &Comments,
) -> Enumeration {
    let values = enumeration.value.iter().map(|value| value.name().to_owned());
    Enumeration { comment: comments.at(path), values: values.collect() }
}

/// A name without the package.
fn short(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

/// Comments by the path of what they stand at.
struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(source: Option<&SourceCodeInfo>) -> Self {
        let locations = source.map(|source| source.location.as_slice()).unwrap_or_default();
        let comments = locations.iter().filter_map(|location| {
            let text = [location.leading_comments(), location.trailing_comments()].concat();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            (!lines.is_empty()).then(|| (location.path.clone(), lines.join(" ")))
        });
        Self(comments.collect())
    }

    fn at(&self, path: &[i32]) -> String {
        self.0.get(path).cloned().unwrap_or_default()
    }
}
